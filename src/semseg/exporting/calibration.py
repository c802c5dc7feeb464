"""Runs a network of this project, as ONNX, on images to measure its ranges of values and the error of int8.

Each tensor is reduced to single numbers within the graph, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from semseg.engines.openvino.backend import scalar_outputs
from semseg.errors import ArtifactError
from semseg.exporting.qdq import Ranges, inner_convolutions, rounded_weights, rounding
from semseg.types import Float32


def activation_ranges(model: onnx.ModelProto, images: Iterable[Float32], cores: int) -> Ranges:
    """The range, over all images, of each input tensor of the inner convolutions.

    images: normalised float32 (1, 3, H, W), at least one. Raises ArtifactError when values are not finite.
    """
    names = list(dict.fromkeys(node.input[0] for node in inner_convolutions(model).values()))
    probes = [(operator, name) for name in names for operator in ("ReduceMin", "ReduceMax")]
    nodes = [helper.make_node(operator, [name], [f"{operator}({name})"], keepdims=0) for operator, name in probes]
    found = _run(model, nodes, [], [node.output[0] for node in nodes], images, cores)
    if not np.isfinite(found).all():
        raise ArtifactError("The network computes values that are not finite.", "Train it again with a lower rate.")
    low, high = found[:, ::2].min(axis=0).tolist(), found[:, 1::2].max(axis=0).tolist()
    return dict(zip(names, zip(low, high, strict=True), strict=True))


def rounding_noise(model: onnx.ModelProto, ranges: Ranges, images: Iterable[Float32], cores: int) -> dict[str, float]:
    """The relative error that int8 adds to the output of each inner convolution alone, by the name of its weights.

    Error and output are root mean squares over all images; the convolution's input is that of the f32 network.
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
    sums = _run(model, nodes, constants, probes, images, cores).sum(axis=0)
    shares = np.sqrt(sums[::2] / np.maximum(sums[1::2], np.finfo(np.float64).tiny))
    return dict(zip(inner_convolutions(model), shares.tolist(), strict=True))


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    outputs: Sequence[str],
    images: Iterable[Float32],
    cores: int,
) -> NDArray[np.float64]:
    """The outputs, single numbers, that the model extended by `nodes` computes for each image: float64 (images,
    outputs)."""
    graph = model.graph
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in outputs]
    extended = helper.make_graph(
        [*graph.node, *nodes], graph.name, graph.input, ports, [*graph.initializer, *constants]
    )
    content = helper.make_model(extended, opset_imports=model.opset_import, ir_version=model.ir_version)
    return scalar_outputs(content.SerializeToString(), cores, images, len(outputs))
