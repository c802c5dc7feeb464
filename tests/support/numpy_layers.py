"""A network's layers in plain numpy: the slow but simple reference for other `Layers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_EPSILON = 1e-5


class NumpyLayers:
    """Layers that compute at once, on arrays (N, C, H, W), as in inference. arrays: the parameters by name."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def convolution(
        self, x: Array, name: str, channels: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, norm: str = ""
    ) -> Array:
        weight = self._arrays[f"{name}.weight"]
        assert weight.shape == (channels, x.shape[1], kernel, kernel)
        out = convolve(x, weight, stride, dilation)
        if not norm:
            return np.array(out + self._arrays[f"{name}.bias"][:, None, None])
        parts = ("gamma", "beta", "running_mean", "running_var")
        return normalise(out, *(self._arrays[f"{norm}.{part}"] for part in parts))

    def relu(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def add(self, first: Array, second: Array, /) -> Array:
        return np.array(first + second)

    def concatenate(self, values: Sequence[Array]) -> Array:
        return np.concatenate(values, axis=1)

    def max_pool(self, x: Array) -> Array:
        return max_pool(x)

    def global_average(self, x: Array) -> Array:
        return np.array(x.mean((2, 3), keepdims=True))

    def adaptive_average(self, x: Array, cells: int) -> Array:
        rows, columns = (
            [slice(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)] for length in x.shape[2:]
        )
        means = np.array([[x[:, :, row, column].mean(axis=(2, 3)) for column in columns] for row in rows])
        return means.transpose(2, 3, 0, 1)

    def spread(self, x: Array, like: Array) -> Array:
        return np.broadcast_to(x, x.shape[:2] + like.shape[2:])

    def stretch(self, x: Array, like: Array) -> Array:
        for axis in (2, 3):
            source = range(x.shape[axis])
            places = np.linspace(0, x.shape[axis] - 1, like.shape[axis])  # of one place: the first
            x = np.apply_along_axis(lambda values: np.interp(places, source, values), axis, x)  # noqa: B023 used at once
        return x

    def dropout(self, x: Array, rate: float) -> Array:
        return x


def convolve(x: Array, weight: Array, stride: int = 1, dilation: int = 1) -> Array:
    """(N, C, H, W) and (outputs, C, size, size) -> (N, outputs, ceil(H/stride), ceil(W/stride)); 0 around the image."""
    outputs, inputs, size, _ = weight.shape
    windows = _windows(x, size, stride, dilation, 0.0)
    result: Array = np.tensordot(weight.reshape(outputs, inputs, size * size), windows, axes=((1, 2), (2, 0)))
    return result.transpose(1, 0, 2, 3)


def normalise(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    """Batch normalisation by the running statistics of each channel."""
    gamma, beta, mean, variance = (values[:, None, None] for values in (gamma, beta, mean, variance))
    return np.array((x - mean) / np.sqrt(variance + _EPSILON) * gamma + beta)


def max_pool(x: Array) -> Array:
    """The maximum over 3 x 3 positions, with stride 2."""
    return np.array(_windows(x, 3, 2, 1, -np.inf).max(axis=0))


def _windows(x: Array, size: int, stride: int, dilation: int, padding: float) -> Array:
    """The input shifted to each position of a kernel, row by row: (size * size, N, C, H, W)."""
    margin = dilation * (size // 2)
    padded = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), constant_values=padding)
    height, width = x.shape[2:]
    places = [(dilation * i, dilation * j) for i in range(size) for j in range(size)]
    return np.stack([padded[:, :, i : i + height : stride, j : j + width : stride] for i, j in places])
