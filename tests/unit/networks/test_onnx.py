from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from semseg.errors import ArtifactError
from semseg.inference.upsampling import upsampled_blocks
from semseg.networks.onnx import OPSET, Graph, Tensor
from semseg.types import Arrays, Float32

IMAGE = Tensor("image", 3)
SIZES = [(1, 1), (2, 5), (6, 6), (7, 13), (60, 45)]


def values(*shape: int) -> Float32:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def upsampled(scores: Float32, height: int, width: int) -> Float32:
    whole = np.empty((len(scores), height, width), np.float32)
    for rows, columns, block in upsampled_blocks(scores, height, width):
        whole[:, rows, columns] = block
    return whole


def run(graph: Graph, output: Tensor, image: Float32) -> Float32:
    """What ONNX Runtime computes."""
    network = graph.finish(output, unused="auxlayer.")
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Float32 = session.run(None, {"image": image})[0]
    return result


@pytest.fixture
def arrays() -> Arrays:
    """A convolution and a batch normalisation, none of whose numbers is 0 or 1."""
    names = ("gamma", "beta", "running_mean")
    norm = {f"n.{name}": number * values(4) for number, name in enumerate(names, 2)}
    return {"c.weight": values(4, 3, 1, 1), "c.bias": values(4)} | norm | {"n.running_var": 0.1 + values(4) ** 2}


def test_a_convolution_adds_its_bias(arrays: Arrays) -> None:
    graph = Graph({name: arrays[name] for name in ("c.weight", "c.bias")}, "f")
    image = values(2, 3, 5, 7)
    expected = np.einsum("oi,nihw->nohw", arrays["c.weight"][..., 0, 0], image) + arrays["c.bias"][:, None, None]
    np.testing.assert_allclose(run(graph, graph.convolution(IMAGE, "c", 4), image), expected, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_is_folded_into_the_convolution(arrays: Arrays) -> None:
    del arrays["c.bias"]
    graph = Graph(arrays, "f")
    image = values(1, 3, 6, 6)
    x = np.einsum("oi,nihw->nohw", arrays["c.weight"][..., 0, 0], image)
    gamma, beta, mean, variance = (
        arrays[f"n.{name}"][:, None, None] for name in ("gamma", "beta", "running_mean", "running_var")
    )
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    output = graph.convolution(IMAGE, "c", 4, norm="n")
    np.testing.assert_allclose(run(graph, output, image), expected, rtol=1e-4, atol=1e-5)


def test_parameters_of_16_bits_are_read(arrays: Arrays) -> None:
    graph = Graph({name: arrays[name].astype(np.float16) for name in ("c.weight", "c.bias")}, "f")
    assert run(graph, graph.convolution(IMAGE, "c", 4), values(1, 3, 2, 2)).dtype == np.float32


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", SIZES)
def test_adaptive_average_is_the_mean_of_each_cell(size: tuple[int, int], cells: int) -> None:
    graph = Graph({}, "f")
    image = values(2, 3, *size)
    rows, columns = (
        [slice(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)] for length in size
    )
    expected = np.array([[image[:, :, row, column].mean(axis=(2, 3)) for column in columns] for row in rows])
    found = run(graph, graph.adaptive_average(IMAGE, cells), image)
    np.testing.assert_allclose(found, expected.transpose(2, 3, 0, 1), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_stretch_aligns_corners(size: tuple[int, int]) -> None:
    graph = Graph({}, "f")
    image = values(1, 3, *size)
    output = graph.stretch(graph.adaptive_average(IMAGE, 3), like=IMAGE)
    small = Graph({}, "f")
    grid = run(small, small.adaptive_average(IMAGE, 3), image)
    expected = upsampled(grid[0], *size)
    np.testing.assert_allclose(run(graph, output, image)[0], expected, atol=1e-5)


def test_spread_repeats_one_place() -> None:
    graph = Graph({}, "f")
    image = values(2, 3, 4, 7)
    found = run(graph, graph.spread(graph.global_average(IMAGE), like=IMAGE), image)
    np.testing.assert_allclose(found, np.broadcast_to(image.mean((2, 3), keepdims=True), image.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"c.bias": None}, "f does not fit the network: c.bias is missing."),
        ({"c.bias": np.ones(3, np.float32)}, "c.bias has shape (3,) instead of (4,)"),
        ({"c.weight": np.ones((4, 3, 3, 3), np.float32)}, "c.weight has shape (4, 3, 3, 3) instead of (4, 3, 1, 1)"),
        ({"c.bias": np.ones(4, np.int64)}, "c.bias has the dtype int64, no floating-point one"),
        ({"d.weight": np.ones(4, np.float32)}, "d.weight is unknown"),
    ],
)
def test_wrong_parameters_are_an_error_that_names_them(arrays: Arrays, change: dict[str, Any], says: str) -> None:
    given = {name: arrays[name] for name in ("c.weight", "c.bias")} | change
    graph = Graph({name: array for name, array in given.items() if array is not None}, "f")
    with pytest.raises(ArtifactError) as caught:
        graph.finish(graph.convolution(IMAGE, "c", 4), unused="auxlayer.")
    assert says in caught.value.message


def test_parameters_of_no_use_are_left_out() -> None:
    graph = Graph({"auxlayer.block.0.weight": np.ones(4, np.float32)}, "f")
    assert not graph.finish(graph.relu(IMAGE), unused="auxlayer.").initializer
