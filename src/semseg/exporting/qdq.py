"""Quantizes the convolutions of a network of this project, as ONNX, with QuantizeLinear and DequantizeLinear nodes.

Weights are int8, symmetric, with a scale for each output channel; activations are uint8, with a scale and a zero point
for each tensor. That is the form in which OpenVINO runs convolutions on AVX512-VNNI and AMX. The first and the last
convolution keep f32: they are next to the image and the labels, and so small that it costs nothing [measured].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from semseg.types import Float32

Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value of each tensor, by its name."""

_ROUNDED = "/rounded"
_NO_ARITHMETIC = ("MaxPool", "Concat")
"""These operators only copy values, so rounding their input or their output is the same."""

_TAKE_ROUNDED = ("Add", *_NO_ARITHMETIC)
"""Besides the int8 convolutions, these operators take the rounded values, which have a quarter of the size."""


def inner_convolutions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """All convolutions except the first and the last, by the name of their weights, in the order of the graph."""
    found = [node for node in model.graph.node if node.op_type == "Conv"]
    return {node.input[1]: node for node in found[1:-1]}


def to_int8(model: onnx.ModelProto, ranges: Ranges, exact: Collection[str] = ()) -> onnx.ModelProto:
    """The model with its inner convolutions in int8, except those whose weights' names are in `exact`.

    ranges: those of the convolutions' input tensors.
    """
    graph = model.graph
    chosen = {name: node for name, node in inner_convolutions(model).items() if name not in exact}
    ranged_as = _tensors_to_round(graph, {node.input[0] for node in chosen.values()})
    nodes, constants = [], []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        in_int8 = copy.op_type == "Conv" and copy.input[1] in chosen
        if in_int8 or copy.op_type in _TAKE_ROUNDED:
            copy.input[:] = [name + _ROUNDED if name in ranged_as else name for name in copy.input]
        if in_int8:
            copy.input[1] += _ROUNDED
        nodes.append(copy)
        for tensor in copy.output:
            if tensor in ranged_as:
                added, values = rounding(tensor, *ranges[ranged_as[tensor]])
                nodes += added
                constants += values
    for constant in graph.initializer:
        if constant.name in chosen:
            added, values = rounded_weights(constant.name, numpy_helper.to_array(constant))
            nodes[:0] = added
            constants += values
        else:
            constants.append(constant)
    rounded = helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)
    result = helper.make_model(rounded, opset_imports=model.opset_import, ir_version=model.ir_version)
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    result.metadata_props.extend(model.metadata_props)
    return result


def rounding(tensor: str, low: float, high: float) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that compute `tensor/rounded`, in 255 steps from `low` to `high`, extended to include 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.uint8(np.clip(round(-low / scale), 0, 255))
    names = [f"{tensor}/scale", f"{tensor}/zero"]
    nodes = [
        helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}/integers"], f"{tensor}/quantize"),
        helper.make_node("DequantizeLinear", [f"{tensor}/integers", *names], [tensor + _ROUNDED], tensor + _ROUNDED),
    ]
    return nodes, [_constant(np.float32(scale), names[0]), _constant(zero, names[1])]


def rounded_weights(name: str, weights: Float32) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that compute `name/rounded`: weights (channels, ...), in -127 to 127 steps per channel."""
    greatest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scale = np.where(greatest > 0, greatest / 127, 1).astype(np.float32)
    integers = np.rint(weights / scale[:, None, None, None]).astype(np.int8)
    names = [f"{name}/integers", f"{name}/scale", f"{name}/zero"]
    values: list[NDArray[Any]] = [integers, scale, np.zeros(len(weights), np.int8)]
    node = helper.make_node("DequantizeLinear", names, [name + _ROUNDED], name + _ROUNDED, axis=0)
    return [node], [_constant(value, called) for value, called in zip(values, names, strict=True)]


def _tensors_to_round(graph: onnx.GraphProto, taken: Collection[str]) -> dict[str, str]:
    """The tensors to round, each with the one whose range it gets: those of `taken`, or the ones copied into them."""
    makers = {tensor: node for node in graph.node for tensor in node.output}
    ranged_as = {name: name for name in taken if makers[name].op_type not in _NO_ARITHMETIC}
    for name in taken - ranged_as.keys():
        for source in makers[name].input:
            ranged_as.setdefault(source, name)
    return ranged_as


def _constant(array: NDArray[Any] | np.generic, name: str) -> onnx.TensorProto:
    tensor: onnx.TensorProto = numpy_helper.from_array(np.asarray(array), name)
    return tensor
