"""Compares the GFLOP/s of a network with those of a lone 3 x 3 convolution, 512 to 512 channels, on 60 x 60 pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _models import in_int8
from onnx import TensorProto, helper, numpy_helper

from semseg.engines.openvino.backend import OpenVinoBackend, core, settings
from semseg.exporting.qdq import rounded_weights, rounding
from semseg.networks.definitions import NETWORKS
from semseg.types import Float32

CORES, CLASSES = 2, 21
NETWORK_GFLOP = 256
"""FCN-ResNet50 at 480 x 480 without its auxiliary head."""

SHAPE = 1, 512, 60, 60
LONE_GFLOP = 2 * 9 * 512 * 512 * 3600 / 1e9
_REPEATS = 5


def rates(parent: Connection, job: str, precision: str, rounds: str) -> None:
    """Sends the GFLOP/s of FCN-ResNet50 at 480 x 480, and of the convolution, to the parent process."""
    parent.recv()
    content = (Path(job) / "model/model.onnx").read_bytes()
    image = np.random.default_rng(0).normal(size=(1, 3, 480, 480)).astype(np.float32)
    hint = "f32" if precision == "int8" else precision  # for the layers that are not int8
    network = OpenVinoBackend(
        in_int8(content, image) if precision == "int8" else content, NETWORKS[0], CLASSES, hint, CORES
    )
    model = lone_int8() if precision == "int8" else lone()
    request = core().compile_model(core().read_model(model), "CPU", settings(hint, CORES)).create_infer_request()
    x = np.ones(SHAPE, np.uint8 if precision == "int8" else np.float32)
    samples = []
    for _ in range(int(rounds) + 1):
        network_rate = NETWORK_GFLOP / seconds(lambda: network.logits(image))
        lone_rate = _REPEATS * LONE_GFLOP / seconds(lambda: [request.infer([x]) for _ in range(_REPEATS)])
        samples.append((network_rate, lone_rate))
    parent.send(list(zip(*samples[1:], strict=True)))


def lone() -> bytes:
    """The ONNX model of the convolution in float32."""
    convolution = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    return model([convolution], [numpy_helper.from_array(weights(), "w")], TensorProto.FLOAT)


def lone_int8() -> bytes:
    """The ONNX model of the convolution as in an int8 network: uint8 input, int8 weights, uint8 output."""
    convolution = helper.make_node("Conv", ["x/rounded", "w/rounded"], ["sums"], pads=[1, 1, 1, 1])
    before, constants = rounding("x", 0.0, 255.0)
    between, more = rounded_weights("w", weights())
    after, rest = rounding("sums", -400.0, 400.0)
    before[1].input[0], after[0].output[0] = "x", "y"  # the input and the output are the integers themselves
    nodes = [before[1], *between, convolution, after[0]]
    return model(nodes, [*constants, *more, *rest], TensorProto.UINT8)


def weights() -> Float32:
    return np.random.default_rng(0).normal(size=(512, 512, 3, 3)).astype(np.float32)


def model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], kind: int) -> bytes:
    """An ONNX model with one input and one output of SHAPE."""
    x, y = (helper.make_tensor_value_info(name, kind, SHAPE) for name in "xy")
    graph = helper.make_graph(nodes, "lone", [x], [y], constants)
    content: bytes = helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return content


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
