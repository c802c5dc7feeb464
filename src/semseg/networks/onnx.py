"""Writes a network as an ONNX graph, layer by layer; the parameters are checked against the network first.

Batch normalisation is folded into the preceding convolution; dropout and the auxiliary head, which only serve training,
are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from semseg.networks.definitions import Backbone, Network
from semseg.networks.parameters import EPSILON, parameter_table, require_fit, without_auxiliary
from semseg.types import Arrays, Float32
from semseg.version import __version__

_OPSET = 18
_IR_VERSION = 10


def onnx_model(network: Network, backbone: Backbone, num_classes: int, arrays: Arrays, origin: str) -> onnx.ModelProto:
    """Return the ONNX model of a network.

    Its input is `image`, normalised RGB float32 (N, 3, H, W), its output `logits`, float32 (N, num_classes,
    ceil(H/stride), ceil(W/stride)), for any N, H and W from 1. arrays: parameters by GluonCV's structural name; those
    of an auxiliary head are ignored; `origin` names their file in errors.
    Raises ArtifactError if a parameter is missing, unknown, or has the wrong shape or dtype.
    """
    needed = without_auxiliary(arrays)
    require_fit(parameter_table(network, backbone, num_classes, auxiliary=False), needed, origin)
    layers = _OnnxLayers(needed)
    logits, _ = network.build(layers, _Tensor("image", 3), backbone, num_classes, auxiliary=False)
    return layers.model(logits, network.stride)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the graph, (N, channels, height, width)."""

    name: str
    channels: int


class _OnnxLayers:
    """Layers that append nodes to the graph of a model. arrays: the parameters by name, already checked."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._model = helper.make_model(
            helper.make_graph([], "semseg", [], []),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="semseg-container",
            producer_version=__version__,
        )
        self._graph = self._model.graph  # filled here: making a model of a full graph would copy all weights

    def convolution(
        self,
        x: _Tensor,
        name: str,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "",
    ) -> _Tensor:
        weight = self._arrays[f"{name}.weight"]
        if norm:
            scale, bias = self._normalisation(norm)
            scaled = np.empty(weight.shape, np.float32)
            weight = np.multiply(weight, scale[:, None, None, None], out=scaled, casting="same_kind")
        else:
            bias = self._arrays[f"{name}.bias"]
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
        return _Tensor(output, channels)

    def relu(self, x: _Tensor) -> _Tensor:
        return _Tensor(self._node("Relu", [x.name]), x.channels)

    def add(self, first: _Tensor, second: _Tensor, /) -> _Tensor:
        return _Tensor(self._node("Add", [first.name, second.name]), first.channels)

    def concatenate(self, values: Sequence[_Tensor]) -> _Tensor:
        output = self._node("Concat", [value.name for value in values], axis=1)
        return _Tensor(output, sum(value.channels for value in values))

    def max_pool(self, x: _Tensor) -> _Tensor:
        return _Tensor(self._node("MaxPool", [x.name], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), x.channels)

    def global_average(self, x: _Tensor) -> _Tensor:
        return _Tensor(self._node("GlobalAveragePool", [x.name]), x.channels)

    def spread(self, x: _Tensor, like: _Tensor) -> _Tensor:
        size = self._node("Shape", [like.name], start=2)
        shape = self._node("Concat", [self._integers([1, 1]), size], axis=0)
        return _Tensor(self._node("Expand", [x.name, shape]), x.channels)

    def stretch(self, x: _Tensor, like: _Tensor) -> _Tensor:
        size = self._node("Shape", [like.name], start=2)
        output = self._node(
            "Resize",
            [x.name, "", "", size],
            axes=[2, 3],
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        return _Tensor(output, x.channels)

    def adaptive_average(self, x: _Tensor, cells: int) -> _Tensor:
        # Two products with averaging matrices: ONNX has no adaptive pooling, and fixed windows would fix the size.
        rows, columns = self._averages(x, 2, cells), self._averages(x, 3, cells)
        wide = self._node("MatMul", [rows, x.name])
        return _Tensor(self._node("MatMul", [wide, self._node("Transpose", [columns], perm=[1, 0])]), x.channels)

    def _averages(self, x: _Tensor, axis: int, cells: int) -> str:
        """The matrix (cells, size) of the means: cell i of n is from floor(i size / n) to ceil((i + 1) size / n)."""
        size = self._node("Squeeze", [self._node("Shape", [x.name], start=axis, end=axis + 1)])
        positions = self._node("Range", [self._integers(0), size, self._integers(1)])
        number, count = np.arange(cells)[:, None], self._integers(cells)
        first = self._node("Div", [self._node("Mul", [self._integers(number), size]), count])
        after = self._node("Mul", [self._integers(number + 1), size])
        after = self._node("Div", [self._node("Add", [after, self._integers(cells - 1)]), count])
        from_first = self._node("GreaterOrEqual", [positions, first])
        inside = self._node("And", [from_first, self._node("Less", [positions, after])])
        width = self._node("Cast", [self._node("Sub", [after, first])], to=TensorProto.FLOAT)
        return self._node("Div", [self._node("Cast", [inside], to=TensorProto.FLOAT), width])

    def model(self, x: _Tensor, stride: int) -> onnx.ModelProto:
        """The model from `image` to `logits`; `x` must be the layer added last."""
        self._graph.node[-1].output[0] = "logits"
        size = [f"ceil({side}/{stride})" for side in "HW"]
        self._graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"]))
        self._graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", x.channels, *size]))
        return self._model

    def dropout(self, x: _Tensor, rate: float) -> _Tensor:  # noqa: ARG002 inference drops nothing
        return x

    def _normalisation(self, name: str) -> tuple[NDArray[np.float64], Float32]:
        """Batch normalisation as a scale and a bias for each channel."""
        gamma, beta, mean, variance = (
            self._arrays[f"{name}.{part}"].astype(np.float64)
            for part in ("gamma", "beta", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        return scale, (beta - mean * scale).astype(np.float32)

    def _node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"{operator}_{len(self._graph.node)}"
        self._graph.node.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def _integers(self, values: Any) -> str:
        array = np.asarray(values, np.int64)
        return self._constant(array, f"integers_{len(self._graph.initializer)}")

    def _constant(self, array: NDArray[Any], name: str) -> str:
        if array.dtype != np.int64:
            array = array.astype(np.float32, copy=False)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self._graph.initializer.add(name=name, data_type=kind, dims=array.shape, raw_data=array.tobytes())
        return name
