"""What inference needs of an engine."""

from __future__ import annotations

from typing import Protocol

from semseg.types import Float32


class Backend(Protocol):
    """A trained network on a device, without normalisation before it and upsampling after it."""

    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, C, ceil(H/8), ceil(W/8)), for any H and W from 1."""
        ...
