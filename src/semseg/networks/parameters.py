"""The parameters of a network: their names, shapes, initial values and learning rates, read from its definition."""

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
"""What Gluon's batch normalisation adds to a variance before it takes the root."""


class Start(Enum):
    """What a parameter begins with.

    XAVIER: MXNet's Xavier(), uniform within the square root of 6 / (fan in + fan out) (Glorot and Bengio, 2010).
    UNIFORM: MXNet's default, uniform within 0.07, which GluonCV leaves its heads to.
    """

    XAVIER = "Xavier"
    UNIFORM = "uniform"
    ZEROS = "zeros"
    ONES = "ones"


@dataclass(frozen=True)
class Parameter:
    """An array of a network. rate: the factor of the learning rate, 10 for the heads, as GluonCV's training sets it;
    trained: whether it has a gradient, as running statistics have not."""

    shape: tuple[int, ...]
    start: Start
    rate: float
    trained: bool


Table = dict[str, Parameter]
"""Parameters by GluonCV's structural name, such as ``head.block.4.weight``, in the order of the layers."""


def parameter_table(network: Network, backbone: Backbone, num_classes: int, auxiliary: bool = True) -> Table:
    """Return the parameters of a network; `auxiliary`: with those of its auxiliary head."""
    recorder = _Recorder()
    network.build(recorder, _Shape(3), backbone, num_classes, auxiliary)
    return recorder.table | backbone_table(backbone)


def backbone_table(backbone: Backbone) -> Table:
    """Return the parameters of a backbone alone."""
    recorder = _Recorder(weights=Start.XAVIER, rate=1.0)
    backbone.stages(recorder, _Shape(3))
    return recorder.table


def initial_values(table: Table, seed: int) -> Arrays:
    """Return an array for each parameter, float32, random where it begins so; equal seeds give equal values."""
    generator = np.random.default_rng(seed)
    return {name: _initial(parameter, generator) for name, parameter in table.items()}


def require_fit(table: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], origin: str) -> None:
    """Raise ArtifactError, naming `origin`, unless the arrays have the names and shapes of the table, and numbers.

    table: whatever has a shape, by name.
    """
    faults = [f"{name} is missing" for name in table.keys() - arrays.keys()]
    faults += [f"{one_line(name):.100} is unknown" for name in arrays.keys() - table.keys()]
    for name in table.keys() & arrays.keys():
        array, shape = arrays[name], tuple(table[name].shape)
        if array.shape != shape:
            faults.append(f"{name} has shape {array.shape} instead of {shape}")
        elif array.dtype.kind != "f":
            faults.append(f"{name} has the dtype {array.dtype}, no floating-point one")
    if faults:
        raise ArtifactError(f"{origin} does not fit the network: {first_few(sorted(faults))}.")


def without_auxiliary(arrays: Arrays) -> Arrays:
    """Return the arrays but for those of an auxiliary head."""
    return {name: array for name, array in arrays.items() if not name.startswith(AUXILIARY)}


def unusable(arrays: Arrays) -> list[str]:
    """Return the names of parameters that no network computes with: values that are no numbers in float32, or variances
    of a batch normalisation below 0. One pass over all values, without a copy.

    A network's output does not show all of them: oneDNN's ReLU makes 0 of what is no number.
    """
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not _usable(name, array)]


def _usable(name: str, array: NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):
        lowest, highest = array.min(), array.max()  # which are NaN if any value is, and then no comparison holds
    least = -EPSILON if name.endswith(".running_var") else -_LARGEST
    return bool(least <= lowest and highest <= _LARGEST)


def _initial(parameter: Parameter, generator: np.random.Generator) -> Float32:
    shape = parameter.shape
    if parameter.start in (Start.ZEROS, Start.ONES):
        return np.full(shape, parameter.start is Start.ONES, np.float32)
    places = int(np.prod(shape[2:]))
    limit = np.float32(np.sqrt(6 / ((shape[0] + shape[1]) * places)) if parameter.start is Start.XAVIER else _UNIFORM)
    values = generator.random(shape, np.float32)
    values *= 2 * limit
    values -= limit
    return values


@dataclass(frozen=True)
class _Shape:
    """A value of so many channels, of any height and width."""

    channels: int


class _Recorder:
    """The layers that compute nothing, and note the parameters that are asked for."""

    def __init__(self, weights: Start = Start.UNIFORM, rate: float = _HEADS_RATE) -> None:
        self.table: dict[str, Parameter] = {}
        self._weights = weights
        self._rate = rate

    def convolution(
        self, x: _Shape, name: str, channels: int, kernel: int = 1, *, norm: str = "", **_: object
    ) -> _Shape:
        self._note(f"{name}.weight", (channels, x.channels, kernel, kernel), self._weights)
        if norm:
            self._note(f"{norm}.gamma", (channels,), Start.ONES)
            self._note(f"{norm}.beta", (channels,), Start.ZEROS)
            self._note(f"{norm}.running_mean", (channels,), Start.ZEROS, trained=False)
            self._note(f"{norm}.running_var", (channels,), Start.ONES, trained=False)
        else:
            self._note(f"{name}.bias", (channels,), Start.ZEROS)
        return _Shape(channels)

    def _same(self, x: _Shape, *_: object, **__: object) -> _Shape:
        """A layer without parameters that keeps the channels."""
        return x

    relu = add = max_pool = global_average = adaptive_average = spread = stretch = dropout = _same

    def concatenate(self, values: Sequence[_Shape]) -> _Shape:
        return _Shape(sum(value.channels for value in values))

    def _note(self, name: str, shape: tuple[int, ...], start: Start, trained: bool = True) -> None:
        self.table[name] = Parameter(shape, start, self._rate, trained)
