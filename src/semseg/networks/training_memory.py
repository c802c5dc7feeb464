"""Estimates the memory that a training step takes, from a network's definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import parameter_table

_FLOAT = 4
_COPIES_OF_PARAMETERS = 4
"""The parameters, their gradient, and up to two arrays of the optimizer."""

_WORKING = 1.4
"""How many times what a step keeps it takes at most [measured: the difference of the peaks for batches of two sizes,
over the difference in pixels, was 6,560 bytes with FCN on ResNet-50 in float32, with PyTorch on a CPU]."""

_COPIES_OF_SCORES = 3
"""Of each head's scores at the size of the image: the scores, their softmax and their gradient."""


def training_bytes(
    network: Network, backbone: Backbone, num_classes: int, images: int, crop: int, *, half: bool = False
) -> int:
    """Return roughly how many bytes a device needs to train on a batch of square crops.

    That is what layers keep for the gradient and compute besides, the scores of both heads at the size of the image,
    the parameters, their gradient and the optimizer's arrays; not what libraries take for themselves.
    images: those of this device; crop: their side in pixels; half: whether the layers compute in 16 bits.
    """
    counter = _Counter()
    heads = network.build(counter, _Shape(3, 1.0), backbone, num_classes, auxiliary=True)
    kept = counter.kept * (_FLOAT // 2 if half else _FLOAT)
    scores = _COPIES_OF_SCORES * _FLOAT * num_classes * sum(head is not None for head in heads)
    table = parameter_table(network, backbone, num_classes)
    parameters = _FLOAT * _COPIES_OF_PARAMETERS * sum(prod(one.shape) for one in table.values())
    return parameters + round(images * crop * crop * _WORKING * (kept + scores))


@dataclass(frozen=True)
class _Shape:
    """channels; share: the positions for each pixel of the image, 1 / stride squared."""

    channels: int
    share: float

    @property
    def size(self) -> float:
        """The values for each pixel of the image."""
        return self.channels * self.share


class _Counter:
    """Layers that compute nothing and count the values that they keep for each pixel of the image."""

    def __init__(self) -> None:
        self.kept = 0.0

    def convolution(
        self,
        x: _Shape,
        name: str,  # noqa: ARG002 - of the parameters
        channels: int,
        kernel: int = 1,  # noqa: ARG002 - the size is the same
        *,
        stride: int = 1,
        **_: object,
    ) -> _Shape:
        return self._keeping(_Shape(channels, x.share / stride**2))

    def relu(self, x: _Shape) -> _Shape:
        return self._keeping(x)

    def add(self, first: _Shape, _: _Shape, /) -> _Shape:
        return first

    def concatenate(self, values: Sequence[_Shape]) -> _Shape:
        return self._keeping(_Shape(sum(value.channels for value in values), values[0].share))

    def max_pool(self, x: _Shape) -> _Shape:
        return self._keeping(_Shape(x.channels, x.share / 4))

    def global_average(self, x: _Shape) -> _Shape:
        return _Shape(x.channels, 0.0)

    def adaptive_average(self, x: _Shape, _: int) -> _Shape:
        return _Shape(x.channels, 0.0)

    def spread(self, x: _Shape, like: _Shape) -> _Shape:
        return self._keeping(_Shape(x.channels, like.share))

    def stretch(self, x: _Shape, like: _Shape) -> _Shape:
        return self._keeping(_Shape(x.channels, like.share))

    def dropout(self, x: _Shape, _: float) -> _Shape:
        return self._keeping(x)

    def _keeping(self, x: _Shape) -> _Shape:
        self.kept += x.size
        return x
