from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy_layers import NumpyLayers
from untrained import random_arrays

from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network
from semseg.networks.layers import Layers, T
from semseg.networks.onnx import _OnnxLayers, _Tensor, onnx_model
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays, Float32
from semseg.version import __version__

IMAGE = _Tensor("image", 3)
SIZES = [(1, 1), (2, 5), (6, 6), (7, 13), (60, 45)]


def values(*shape: int) -> Float32:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def run(layers: _OnnxLayers, output: _Tensor, image: Float32) -> Float32:
    """The outputs that ONNX Runtime computes."""
    return run_model(layers.model(output, stride=1), image)


def run_model(model: onnx.ModelProto, image: Float32) -> Float32:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Float32 = session.run(["logits"], {"image": image})[0]
    return result


@pytest.fixture
def arrays() -> Arrays:
    """Parameters of a convolution and a batch normalisation, none of them 0 or 1."""
    names = ("gamma", "beta", "running_mean")
    norm = {f"n.{name}": number * values(4) for number, name in enumerate(names, 2)}
    return {"c.weight": values(4, 3, 1, 1), "c.bias": values(4)} | norm | {"n.running_var": 0.1 + values(4) ** 2}


def test_a_convolution_adds_its_bias(arrays: Arrays) -> None:
    layers = _OnnxLayers(arrays)
    image = values(2, 3, 5, 7)
    expected = np.einsum("oi,nihw->nohw", arrays["c.weight"][..., 0, 0], image) + arrays["c.bias"][:, None, None]
    np.testing.assert_allclose(run(layers, layers.convolution(IMAGE, "c", 4), image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 12])
@pytest.mark.parametrize("size", SIZES)
def test_a_convolution_keeps_the_size_but_for_its_stride(
    size: tuple[int, int], dilation: int, stride: int, kernel: int
) -> None:
    arrays = {"c.weight": values(4, 3, kernel, kernel), "c.bias": values(4)}
    layers, image = _OnnxLayers(arrays), values(2, 3, *size)
    found = run(layers, layers.convolution(IMAGE, "c", 4, kernel, stride=stride, dilation=dilation), image)
    assert found.shape == (2, 4, *(-(-side // stride) for side in size))
    expected = NumpyLayers(arrays).convolution(image, "c", 4, kernel, stride=stride, dilation=dilation)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_is_folded_into_the_convolution(arrays: Arrays) -> None:
    del arrays["c.bias"]
    layers = _OnnxLayers(arrays)
    image = values(1, 3, 6, 6)
    x = np.einsum("oi,nihw->nohw", arrays["c.weight"][..., 0, 0], image)
    gamma, beta, mean, variance = (
        arrays[f"n.{name}"][:, None, None] for name in ("gamma", "beta", "running_mean", "running_var")
    )
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    output = layers.convolution(IMAGE, "c", 4, norm="n")
    np.testing.assert_allclose(run(layers, output, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_parameters_of_other_precision_are_read(arrays: Arrays, dtype: type) -> None:
    layers = _OnnxLayers({name: array.astype(dtype) for name, array in arrays.items()})
    assert run(layers, layers.convolution(IMAGE, "c", 4), values(1, 3, 2, 2)).dtype == np.float32


@pytest.mark.parametrize("size", SIZES)
def test_relu_add_concatenate_and_max_pool(size: tuple[int, int]) -> None:
    def several(layers: Layers[T], x: T) -> T:
        return layers.max_pool(layers.concatenate([layers.add(layers.relu(x), x), x]))

    layers, image = _OnnxLayers({}), values(2, 3, *size)
    np.testing.assert_array_equal(run(layers, several(layers, IMAGE), image), several(NumpyLayers({}), image))


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", SIZES)
def test_adaptive_average_is_the_mean_of_each_cell(size: tuple[int, int], cells: int) -> None:
    layers, image = _OnnxLayers({}), values(2, 3, *size)
    found = run(layers, layers.adaptive_average(IMAGE, cells), image)
    np.testing.assert_allclose(found, NumpyLayers({}).adaptive_average(image, cells), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_stretch_aligns_corners(size: tuple[int, int]) -> None:
    def stretched(layers: Layers[T], x: T) -> T:
        return layers.stretch(layers.adaptive_average(x, 3), like=x)

    layers, image = _OnnxLayers({}), values(2, 3, *size)
    np.testing.assert_allclose(
        run(layers, stretched(layers, IMAGE), image), stretched(NumpyLayers({}), image), atol=1e-5
    )


def test_spread_repeats_one_place() -> None:
    layers, image = _OnnxLayers({}), values(2, 3, 4, 7)
    found = run(layers, layers.spread(layers.global_average(IMAGE), like=IMAGE), image)
    np.testing.assert_allclose(found, np.broadcast_to(image.mean((2, 3), keepdims=True), image.shape), atol=1e-6)


def test_dropout_leaves_nothing_out() -> None:
    layers, image = _OnnxLayers({}), values(1, 3, 2, 2)
    output = layers.dropout(layers.relu(IMAGE), 0.5)
    np.testing.assert_array_equal(run(layers, output, image), np.maximum(image, 0))


# A whole model: the smallest network there can be.


def _stages(layers: Layers[T], image: T) -> Sequence[T]:
    return [layers.relu(layers.convolution(image, "stem", 2, norm="stem_norm"))]


def _head(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    return layers.convolution(stages[-1], "head", num_classes)


def _auxiliary(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    return layers.convolution(stages[-1], "auxlayer.head", num_classes)


BACKBONE = Backbone("least", "Least", _stages)
NETWORK = Network("single", "Single", _head, _auxiliary, "head", 1, {})


def parameters(auxiliary: bool = False) -> Arrays:
    return initial_values(parameter_table(NETWORK, BACKBONE, 4, auxiliary), seed=1)


def test_the_model_says_what_made_it_and_leaves_sizes_open() -> None:
    model = onnx_model(NETWORK, BACKBONE, 4, parameters(), "f")
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("semseg-container", __version__)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    shapes = {
        port.name: [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["N", 3, "H", "W"], "logits": ["N", 4, "ceil(H/1)", "ceil(W/1)"]}


def test_the_auxiliary_head_is_left_out() -> None:
    arrays = parameters(auxiliary=True)
    model = onnx_model(NETWORK, BACKBONE, 4, arrays, "f")
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Conv"]
    assert {constant.name for constant in model.graph.initializer} == {
        f"{name}.{part}" for name in ("stem", "head") for part in ("weight", "bias")
    }
    image = values(2, 3, 5, 7)
    expected, none = NETWORK.build(NumpyLayers(arrays), image, BACKBONE, 4, auxiliary=False)
    assert none is None
    np.testing.assert_allclose(run_model(model, image), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head.bias": None}, "f does not fit the network: head.bias is missing."),
        ({"head.bias": np.ones(3, np.float32)}, "head.bias has shape (3,) instead of (4,)"),
        ({"head.bias": np.ones(4, np.int64)}, "head.bias has the dtype int64, which is not floating-point"),
        ({"d.weight": np.ones(4, np.float32)}, "d.weight is unknown"),
    ],
)
def test_wrong_parameters_are_an_error_that_names_them(change: dict[str, Any], says: str) -> None:
    given = {name: array for name, array in (parameters() | change).items() if array is not None}
    with pytest.raises(ArtifactError) as caught:
        onnx_model(NETWORK, BACKBONE, 4, given, "f")
    assert says in caught.value.message


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_every_network_computes_what_its_layers_say_at_its_stride(network: Network) -> None:
    """Without another engine; the parity tests compare the outputs of those that MXNet computes too."""
    arrays = random_arrays(network.name, BACKBONES[0].name, 3)
    model, image = onnx_model(network, BACKBONES[0], 3, arrays, "f"), values(1, 3, 33, 47)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.output[0].type.tensor_type.shape.dim[2].dim_param == f"ceil(H/{network.stride})"
    logits = run_model(model, image)
    assert logits.shape == (1, 3, -(-33 // network.stride), -(-47 // network.stride))
    expected, _ = network.build(NumpyLayers(arrays), image, BACKBONES[0], 3, auxiliary=False)
    assert logits.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
