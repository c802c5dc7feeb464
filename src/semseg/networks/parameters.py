"""Derives the parameters of a network from its definition: names, shapes, initial values and learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.errors import ArtifactError, first_few, one_line
from semseg.networks.definitions import AUXILIARY, Backbone, Network
from semseg.types import Arrays, Float32

_UNIFORM = 0.07
_HEADS_RATE = 10.0
_LARGEST = float(np.finfo(np.float32).max)
EPSILON = 1e-5
"""Added to a variance by Gluon's batch normalisation before it takes the square root."""


class Initializer(Enum):
    """The distribution of a parameter's initial values.

    XAVIER: MXNet's Xavier(), uniform within the square root of 6 / (fan in + fan out) (Glorot and Bengio, 2010).
    UNIFORM: MXNet's default, uniform within 0.07, which GluonCV uses for its heads.
    """

    XAVIER = "Xavier"
    UNIFORM = "uniform"
    ZEROS = "zeros"
    ONES = "ones"


@dataclass(frozen=True)
class Parameter:
    """An array of a network.

    rate: factor of the learning rate, 10 for the heads as in GluonCV's training; trained: whether it has a gradient,
    which running statistics do not.
    """

    shape: tuple[int, ...]
    initializer: Initializer
    rate: float
    trained: bool


Table = dict[str, Parameter]
"""Parameters by GluonCV's structural name, such as ``head.block.4.weight``, in the order of the layers."""


def parameter_table(network: Network, backbone: Backbone, num_classes: int, auxiliary: bool = True) -> Table:
    """Return the parameters of a network; `auxiliary`: whether to include its auxiliary head's."""
    recorder = _Recorder()
    network.build(recorder, _Shape(3), backbone, num_classes, auxiliary)
    return recorder.table | backbone_table(backbone)


def backbone_table(backbone: Backbone) -> Table:
    """Return the parameters of a backbone alone."""
    recorder = _Recorder(weights=Initializer.XAVIER, rate=1.0)
    backbone.stages(recorder, _Shape(3))
    return recorder.table


def initial_values(table: Table, seed: int) -> Arrays:
    """Return the initial value of each parameter: float32. Equal seeds give equal values."""
    generator = np.random.default_rng(seed)
    return {name: _initial(parameter, generator) for name, parameter in table.items()}


def require_fit(table: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], origin: str) -> None:
    """Raise ArtifactError, naming `origin`, unless the arrays have the table's names and shapes and are floating-point.

    table: objects with a `shape`, by name.
    """
    faults = [f"{name} is missing" for name in table.keys() - arrays.keys()]
    faults += [f"{one_line(name):.100} is unknown" for name in arrays.keys() - table.keys()]
    for name in table.keys() & arrays.keys():
        array, shape = arrays[name], tuple(table[name].shape)
        if array.shape != shape:
            faults.append(f"{name} has shape {array.shape} instead of {shape}")
        elif array.dtype.kind != "f":
            faults.append(f"{name} has the dtype {array.dtype}, which is not floating-point")
    if faults:
        raise ArtifactError(f"{origin} does not fit the network: {first_few(sorted(faults))}.")


def without_auxiliary(arrays: Arrays) -> Arrays:
    """Return the arrays without those of an auxiliary head."""
    return {name: array for name, array in arrays.items() if not name.startswith(AUXILIARY)}


def unusable_parameters(arrays: Arrays) -> list[str]:
    """Return the names of parameters with values that are infinite or NaN in float32, or variances below 0.

    It makes one pass over all values, without a copy. The network's output would not reveal all of them: oneDNN's ReLU
    turns NaN into 0.
    """
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not _usable(name, array)]


def _usable(name: str, array: NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):
        lowest, highest = float(array.min()), float(array.max())  # NaN if any value is: both comparisons are false
    least = -EPSILON if name.endswith(".running_var") else -_LARGEST
    return bool(least <= lowest and highest <= _LARGEST)


def _initial(parameter: Parameter, generator: np.random.Generator) -> Float32:
    shape = parameter.shape
    if parameter.initializer in (Initializer.ZEROS, Initializer.ONES):
        return np.full(shape, parameter.initializer is Initializer.ONES, np.float32)
    window = int(np.prod(shape[2:]))
    xavier = parameter.initializer is Initializer.XAVIER
    limit = np.float32(np.sqrt(6 / ((shape[0] + shape[1]) * window)) if xavier else _UNIFORM)
    values = generator.random(shape, np.float32)
    values *= 2 * limit
    values -= limit
    return values


@dataclass(frozen=True)
class _Shape:
    """A value with a number of channels, of any height and width."""

    channels: int


class _Recorder:
    """Layers that compute nothing and record their parameters in `table`."""

    def __init__(self, weights: Initializer = Initializer.UNIFORM, rate: float = _HEADS_RATE) -> None:
        self.table: dict[str, Parameter] = {}
        self._weights = weights
        self._rate = rate

    def convolution(
        self, x: _Shape, name: str, channels: int, kernel: int = 1, *, norm: str = "", **_: object
    ) -> _Shape:
        self._record(f"{name}.weight", (channels, x.channels, kernel, kernel), self._weights)
        if norm:
            self._record(f"{norm}.gamma", (channels,), Initializer.ONES)
            self._record(f"{norm}.beta", (channels,), Initializer.ZEROS)
            self._record(f"{norm}.running_mean", (channels,), Initializer.ZEROS, trained=False)
            self._record(f"{norm}.running_var", (channels,), Initializer.ONES, trained=False)
        else:
            self._record(f"{name}.bias", (channels,), Initializer.ZEROS)
        return _Shape(channels)

    def _same(self, x: _Shape, *_: object, **__: object) -> _Shape:
        """A layer without parameters that keeps the number of channels."""
        return x

    relu = add = max_pool = global_average = adaptive_average = spread = stretch = dropout = _same

    def concatenate(self, values: Sequence[_Shape]) -> _Shape:
        return _Shape(sum(value.channels for value in values))

    def _record(self, name: str, shape: tuple[int, ...], initializer: Initializer, trained: bool = True) -> None:
        self.table[name] = Parameter(shape, initializer, self._rate, trained)
