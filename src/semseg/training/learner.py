"""What training asks of an engine."""

from __future__ import annotations

from typing import Protocol, SupportsFloat

from semseg.types import Arrays, Batch, UInt8


class Learner(Protocol):
    """A network with its criterion and optimizer on its devices."""

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """One update of the parameters; `seed` fixes the dropout.

        What is returned gives, as a float, the criterion's value, the mean over the pictures; that may have to wait
        for the device, while this returns as soon as the device can be given the next update.
        """
        ...

    def evaluate(self, batch: Batch) -> UInt8:
        """The class of each pixel, uint8 (N, H, W), for pictures of any size."""
        ...

    def load(self, arrays: Arrays, origin: str) -> None:
        """Takes over all parameters by structural name; `origin` names their file in errors."""
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
