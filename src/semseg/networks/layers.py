"""The small set of layers that networks are built from; each engine and file format implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Layers(Protocol[T]):
    """Layers as functions of values; T stands for an array (N, channels, height, width), or for its shape.

    Layers with parameters have the name that GluonCV's files use. A convolution's parameters are called `weight` and
    `bias`, those of a batch normalisation `gamma`, `beta`, `running_mean` and `running_var`.
    """

    def convolution(
        self, x: T, name: str, channels: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, norm: str = ""
    ) -> T:
        """A convolution, padded so that only its stride reduces the size.

        It is followed by a batch normalisation if `norm` names one, and has a bias otherwise.
        """
        ...

    def relu(self, x: T) -> T:
        """The maximum of 0 and each value."""
        ...

    def add(self, first: T, second: T, /) -> T:
        """The sum of two values of the same shape."""
        ...

    def concatenate(self, values: Sequence[T]) -> T:
        """The channels of all values, which have the same height and width."""
        ...

    def max_pool(self, x: T) -> T:
        """The maximum over 3 x 3 positions, with stride 2."""
        ...

    def global_average(self, x: T) -> T:
        """The mean over all positions: (N, channels, 1, 1)."""
        ...

    def adaptive_average(self, x: T, cells: int) -> T:
        """The means over the cells of a grid, `cells` x `cells`, whatever the size of `x`.

        Cell i of n is from floor(i size / n) to ceil((i + 1) size / n).
        """
        ...

    def spread(self, x: T, like: T) -> T:
        """(N, channels, 1, 1) repeated to the height and width of `like`."""
        ...

    def stretch(self, x: T, like: T) -> T:
        """Resized bilinearly, corners aligned, to the height and width of `like`."""
        ...

    def dropout(self, x: T, rate: float) -> T:
        """In training, 0 with probability `rate`, else the value divided by 1 - rate; in inference, the value."""
        ...
