"""Runs an ONNX graph of ours on some pictures to learn what rounding to int8 needs to know, and what it does.

Of each tensor only single numbers are kept, reduced within the graph: memory does not grow with the pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from semseg.engines.openvino.backend import numbers
from semseg.errors import ArtifactError
from semseg.exporting.qdq import Ranges, inner_convolutions, rounded_weights, rounding
from semseg.types import Float32


def activation_ranges(model: onnx.ModelProto, pictures: Iterable[Float32], cores: int) -> Ranges:
    """The range, over all pictures, of each tensor that an inner convolution takes in.

    pictures: normalised float32 (1, 3, H, W), one at least. Raises ArtifactError when values are not finite.
    """
    names = list(dict.fromkeys(node.input[0] for node in inner_convolutions(model).values()))
    probes = [(operator, name) for name in names for operator in ("ReduceMin", "ReduceMax")]
    nodes = [helper.make_node(operator, [name], [f"{operator}({name})"], keepdims=0) for operator, name in probes]
    found = _run(model, nodes, [], [node.output[0] for node in nodes], pictures, cores)
    if not np.isfinite(found).all():
        raise ArtifactError("The network computes values that are not finite.", "Train it anew, at a lower rate.")
    low, high = found[:, ::2].min(axis=0).tolist(), found[:, 1::2].max(axis=0).tolist()
    return dict(zip(names, zip(low, high, strict=True), strict=True))


def rounding_noise(model: onnx.ModelProto, ranges: Ranges, pictures: Iterable[Float32], cores: int) -> dict[str, float]:
    """What int8 does to each inner convolution alone: the error it adds to its output, as a share of that.

    Both are root mean squares over all pictures; the input is that of the f32 network. By the name of the weights.
    """
    weights = {constant.name: constant for constant in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for tensor, (low, high) in ranges.items():
        added, values = rounding(tensor, low, high)
        nodes += added
        constants += values
    probes = []
    for name, node in inner_convolutions(model).items():
        added, values = rounded_weights(name, numpy_helper.to_array(weights[name]))
        nodes += added
        constants += values
        output = node.output[0]
        rounded = onnx.NodeProto()
        rounded.CopyFrom(node)
        rounded.input[:] = [f"{node.input[0]}/rounded", f"{name}/rounded", node.input[2]]
        rounded.output[0] = f"{output}/int8"
        nodes += [rounded, helper.make_node("Sub", [output, rounded.output[0]], [f"{output}/error"])]
        for tensor in (f"{output}/error", output):
            probes.append(f"{tensor}/square")
            nodes.append(helper.make_node("ReduceSumSquare", [tensor], [probes[-1]], keepdims=0))
    sums = _run(model, nodes, constants, probes, pictures, cores).sum(axis=0)
    shares = np.sqrt(sums[::2] / np.maximum(sums[1::2], np.finfo(np.float64).tiny))
    return dict(zip(inner_convolutions(model), shares.tolist(), strict=True))


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    outputs: Sequence[str],
    pictures: Iterable[Float32],
    cores: int,
) -> NDArray[np.float64]:
    """Single numbers that the model with further nodes computes of each picture: float64 (pictures, outputs)."""
    graph = model.graph
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in outputs]
    extended = helper.make_graph(
        [*graph.node, *nodes], graph.name, graph.input, ports, [*graph.initializer, *constants]
    )
    content = helper.make_model(extended, opset_imports=model.opset_import, ir_version=model.ir_version)
    return numbers(content.SerializeToString(), cores, pictures, len(outputs))
