"""Writes an ONNX graph layer by layer, from the parameters of a file that may be wrong.

Each layer names the parameters it takes and their shapes; batch normalisation is folded into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from semseg.errors import ArtifactError, some
from semseg.types import Arrays, Float32

OPSET = 18
_EPSILON = 1e-5
"""What Gluon's BatchNorm adds to the variance."""


@dataclass(frozen=True)
class Tensor:
    """A value in the graph, (N, channels, height, width)."""

    name: str
    channels: int


class Graph:
    """A graph that grows by layers. Raises ArtifactError when a parameter is missing, or of another shape or kind."""

    def __init__(self, arrays: Arrays, origin: str) -> None:
        """arrays: parameters by GluonCV's structural name; `origin` names their file in errors."""
        self._arrays = arrays
        self._origin = origin
        self._taken: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def convolution(
        self,
        x: Tensor,
        name: str,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "",
    ) -> Tensor:
        """A convolution that keeps the size but for its stride, with its own bias or else followed by `norm`."""
        weight = self._take(f"{name}.weight", (channels, x.channels, kernel, kernel))
        if norm:
            scale, bias = self._normalisation(norm, channels)
            weight = (weight * scale[:, None, None, None]).astype(np.float32)
        else:
            bias = self._take(f"{name}.bias", (channels,))
        constants = [self._constant(weight, f"{name}.weight"), self._constant(bias, f"{name}.bias")]
        padding = dilation * (kernel // 2)
        output = self._node(
            "Conv",
            [x.name, *constants],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            dilations=[dilation, dilation],
            pads=[padding] * 4,
        )
        return Tensor(output, channels)

    def relu(self, x: Tensor) -> Tensor:
        """The values, 0 at least."""
        return Tensor(self._node("Relu", [x.name]), x.channels)

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        """The sum of two of one shape."""
        return Tensor(self._node("Add", [first.name, second.name]), first.channels)

    def concatenate(self, tensors: Sequence[Tensor]) -> Tensor:
        """All channels of tensors of one size."""
        output = self._node("Concat", [tensor.name for tensor in tensors], axis=1)
        return Tensor(output, sum(tensor.channels for tensor in tensors))

    def max_pool(self, x: Tensor) -> Tensor:
        """The maximum of 3 x 3 places around every second one."""
        return Tensor(self._node("MaxPool", [x.name], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), x.channels)

    def global_average(self, x: Tensor) -> Tensor:
        """The mean over all places: (N, channels, 1, 1)."""
        return Tensor(self._node("GlobalAveragePool", [x.name]), x.channels)

    def spread(self, x: Tensor, like: Tensor) -> Tensor:
        """(N, channels, 1, 1) repeated to the size of `like`."""
        size = self._node("Shape", [like.name], start=2)
        shape = self._node("Concat", [self._integers([1, 1]), size], axis=0)
        return Tensor(self._node("Expand", [x.name, shape]), x.channels)

    def stretch(self, x: Tensor, like: Tensor) -> Tensor:
        """Bilinearly resized, corners aligned, to the size of `like`."""
        size = self._node("Shape", [like.name], start=2)
        output = self._node(
            "Resize",
            [x.name, "", "", size],
            axes=[2, 3],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        return Tensor(output, x.channels)

    def adaptive_average(self, x: Tensor, cells: int) -> Tensor:
        """The means over the cells of a grid, `cells` x `cells`, of any size of `x`.

        Two products with averaging matrices: ONNX has no such pooling, and one of fixed windows knows one size.
        """
        rows, columns = self._averages(x, 2, cells), self._averages(x, 3, cells)
        wide = self._node("MatMul", [rows, x.name])
        return Tensor(self._node("MatMul", [wide, self._node("Transpose", [columns], perm=[1, 0])]), x.channels)

    def _averages(self, x: Tensor, axis: int, cells: int) -> str:
        """The matrix (cells, size) of the means: cell i of n is from floor(i size / n) to ceil((i + 1) size / n)."""
        size = self._node("Squeeze", [self._node("Shape", [x.name], start=axis, end=axis + 1)])
        places = self._node("Range", [self._integers(0), size, self._integers(1)])
        number, count = np.arange(cells)[:, None], self._integers(cells)
        first = self._node("Div", [self._node("Mul", [self._integers(number), size]), count])
        after = self._node("Mul", [self._integers(number + 1), size])
        after = self._node("Div", [self._node("Add", [after, self._integers(cells - 1)]), count])
        inside = self._node("And", [self._node("GreaterOrEqual", [places, first]), self._node("Less", [places, after])])
        width = self._node("Cast", [self._node("Sub", [after, first])], to=TensorProto.FLOAT)
        return self._node("Div", [self._node("Cast", [inside], to=TensorProto.FLOAT), width])

    def finish(self, x: Tensor, unused: str) -> onnx.GraphProto:
        """The graph from `image` to `logits`, which is `x`, the layer added last.

        Raises ArtifactError when the file has parameters that no layer took, but for names beginning with `unused`.
        """
        unknown = [name for name in self._arrays if name not in self._taken and not name.startswith(unused)]
        if unknown:
            raise self._misfit(f"{some([f'{name} is unknown' for name in sorted(unknown)])}")
        self._nodes[-1].output[0] = "logits"
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", x.channels, "ceil(H/8)", "ceil(W/8)"])
        return helper.make_graph(self._nodes, "semseg", [image], [logits], self._constants)

    def _normalisation(self, name: str, channels: int) -> tuple[NDArray[np.float64], Float32]:
        """Batch normalisation as factor and summand of each channel."""
        gamma, beta, mean, variance = (
            self._take(f"{name}.{part}", (channels,)).astype(np.float64)
            for part in ("gamma", "beta", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        return scale, (beta - mean * scale).astype(np.float32)

    def _take(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if name not in self._arrays:
            raise self._misfit(f"{name} is missing")
        array = self._arrays[name]
        if array.shape != shape:
            raise self._misfit(f"{name} has shape {array.shape} instead of {shape}")
        if array.dtype.kind != "f":
            raise self._misfit(f"{name} has the dtype {array.dtype}, no floating-point one")
        self._taken.add(name)
        return array

    def _misfit(self, fault: str) -> ArtifactError:
        return ArtifactError(f"{self._origin} does not fit the network: {fault}.")

    def _node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def _integers(self, values: Any) -> str:
        array = np.asarray(values, np.int64)
        return self._constant(array, f"integers_{len(self._constants)}")

    def _constant(self, array: NDArray[Any], name: str) -> str:
        if array.dtype != np.int64:
            array = array.astype(np.float32)
        self._constants.append(numpy_helper.from_array(array, name))
        return name
