"""Counts the floating-point operations of a network's convolutions, from its definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from semseg.networks.definitions import Backbone, Network


def inference_flop(network: Network, backbone: Backbone, num_classes: int, height: int, width: int) -> int:
    """Those of one image without the auxiliary head; a multiplication and an addition count as two."""
    return sum(_counted(network, backbone, num_classes, height, width, auxiliary=False))


def training_flop(network: Network, backbone: Backbone, num_classes: int, height: int, width: int) -> int:
    """Those of one image of a training step with both heads.

    The gradients of a convolution's weights and of its input take as many as the convolution itself; nothing needs the
    gradient of the image.
    """
    counted = _counted(network, backbone, num_classes, height, width, auxiliary=True)
    return 3 * sum(counted) - counted[0]


def _counted(
    network: Network, backbone: Backbone, num_classes: int, height: int, width: int, auxiliary: bool
) -> list[int]:
    """The operations of each convolution, the first one first."""
    counter = _Counter()
    network.build(counter, _Shape(3, height, width), backbone, num_classes, auxiliary)
    return counter.counted


@dataclass(frozen=True)
class _Shape:
    channels: int
    height: int
    width: int

    def reduced(self, channels: int, stride: int) -> _Shape:
        return _Shape(channels, ceil(self.height / stride), ceil(self.width / stride))


class _Counter:
    """Layers that compute nothing and count the operations of convolutions in `counted`."""

    def __init__(self) -> None:
        self.counted: list[int] = []

    def convolution(
        self, x: _Shape, name: str, channels: int, kernel: int = 1, *, stride: int = 1, **_: object
    ) -> _Shape:
        result = x.reduced(channels, stride)
        self.counted.append(2 * x.channels * kernel * kernel * channels * result.height * result.width)
        return result

    def relu(self, x: _Shape) -> _Shape:
        return x

    def add(self, first: _Shape, _: _Shape, /) -> _Shape:
        return first

    def concatenate(self, values: Sequence[_Shape]) -> _Shape:
        return _Shape(sum(value.channels for value in values), values[0].height, values[0].width)

    def max_pool(self, x: _Shape) -> _Shape:
        return x.reduced(x.channels, 2)

    def global_average(self, x: _Shape) -> _Shape:
        return _Shape(x.channels, 1, 1)

    def adaptive_average(self, x: _Shape, cells: int) -> _Shape:
        return _Shape(x.channels, cells, cells)

    def spread(self, x: _Shape, like: _Shape) -> _Shape:
        return _Shape(x.channels, like.height, like.width)

    stretch = spread

    def dropout(self, x: _Shape, _: float) -> _Shape:
        return x
