"""What the rooms above ask of an engine."""

from __future__ import annotations

from typing import Protocol, SupportsFloat

from semseg.types import Arrays, Batch, Float32, UInt8


class Backend(Protocol):
    """A trained network on a device, without normalisation before it and upsampling after it."""

    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, C, ceil(H/8), ceil(W/8)), for any H and W from 1."""
        ...


class Learner(Protocol):
    """A network with its criterion and optimizer on its devices."""

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """One update of the parameters; `seed` fixes the dropout on a CPU.

        What is returned gives, as a float, the criterion's value, the mean over the pictures; that may have to wait
        for the device, while this returns as soon as the device can be given the next update.
        """
        ...

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """For pictures of any size, the class of each pixel, uint8 (N, H, W), and the mean cross entropy of those
        pixels that count, of the main head alone."""
        ...

    def logits(self, images: Float32) -> Float32:
        """What `inference.Backend` asks for: normalised RGB float32 (N, 3, H, W) -> (N, C, ceil(H/8), ceil(W/8))."""
        ...

    def load(self, arrays: Arrays, origin: str) -> None:
        """Takes over all parameters by structural name; `origin` names their file in errors."""
        ...

    def device_memory(self) -> int | None:
        """The bytes that are free on a device with memory of its own; None where it computes in the host's."""
        ...

    def parameters(self) -> Arrays:
        """All parameters by structural name, as `load` takes them."""
        ...

    def state(self) -> Arrays:
        """All that the next update depends on, by name: parameters, running statistics, the optimizer's state."""
        ...

    def restore(self, arrays: Arrays, origin: str) -> None:
        """Takes over what `state` returned; `origin` names its file in errors."""
        ...
