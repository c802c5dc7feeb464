"""The base class of fake networks."""

from __future__ import annotations


class OnHost:
    """A backend of stride 8 that computes in the host's memory; subclasses define `logits`."""

    stride = 8
    bytes_per_pixel = 1000
    precision = "f32"

    def device_memory(self) -> int | None:
        return None
