"""What a network is built of: one small set of layers, whatever an engine or a file format makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Layers(Protocol[T]):
    """Layers that turn values into values; T stands for an array (N, channels, height, width), or for its shape.

    A layer with parameters is given its name, by which GluonCV's files know them: `weight` and `bias` of a convolution,
    `gamma`, `beta`, `running_mean` and `running_var` of a batch normalisation.
    """

    def convolution(
        self, x: T, name: str, channels: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, norm: str = ""
    ) -> T:
        """A convolution that keeps the size but for its stride.

        It has a bias, unless it is followed by the batch normalisation that is called `norm`.
        """
        ...

    def relu(self, x: T) -> T:
        """The values, 0 at least."""
        ...

    def add(self, first: T, second: T, /) -> T:
        """The sum of two of one shape."""
        ...

    def concatenate(self, values: Sequence[T]) -> T:
        """All channels of values of one height and width."""
        ...

    def max_pool(self, x: T) -> T:
        """The maximum of 3 x 3 places around every second one."""
        ...

    def global_average(self, x: T) -> T:
        """The mean over all places: (N, channels, 1, 1)."""
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
        """In training each value is 0 with the probability `rate`, else divided by 1 - rate; elsewhere unchanged."""
        ...
