"""The exported networks against MXNet, which runs GluonCV's layers, and against plain GluonCV itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from untrained import ALGORITHMS, ENCODERS, random_arrays

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon.backend import GluonBackend, load_backend
from semseg.engines.openvino.backend import OpenVinoBackend, core, settings
from semseg.exporting.calibration import activation_ranges
from semseg.exporting.onnx_model import build_onnx
from semseg.exporting.qdq import inner_convolutions, to_int8
from semseg.exporting.symbol import write_symbol
from semseg.machine import usable_cores
from semseg.types import Float32

CLASSES = 5
SIZES = [(64, 64), (97, 131), (1, 1), (3, 40)]
LARGE = [(333, 1000), (480, 360)]


ALL = [(algorithm, backbone) for algorithm in ALGORITHMS for backbone in ENCODERS]
ON_EITHER_BACKBONE = pytest.mark.parametrize("model", ALL, ids="-".join, indirect=True, scope="module")
ON_ONE = pytest.mark.parametrize(
    "model", [pair for pair in ALL if pair[1] == ENCODERS[0]], ids="-".join, indirect=True, scope="module"
)
"""Where the heads matter: the backbones differ in the number of their blocks alone."""


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelDescription]:
    """A network of random weights, biases and statistics."""
    directory = tmp_path_factory.mktemp("network")
    algorithm, backbone = request.param
    write_params(directory / "model_best.params", random_arrays(algorithm, backbone, CLASSES))
    described = describe(directory)
    yield described
    described.params.unlink()


@pytest.fixture(scope="module")
def mxnet(mx: Any, model: ModelDescription) -> GluonBackend:
    return load_backend(model.network, model.backbone, CLASSES, read_params(model.params), "f", mx.cpu())


@pytest.fixture(scope="module")
def content(model: ModelDescription) -> bytes:
    return build_onnx(model)


@pytest.fixture(scope="module")
def openvino(content: bytes, model: ModelDescription) -> OpenVinoBackend:
    return OpenVinoBackend(content, model.network, CLASSES, "f32", usable_cores())


@pytest.fixture(scope="module")
def onnx_runtime(content: bytes) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def picture(height: int, width: int, count: int = 1) -> Float32:
    """What `normalise` makes of noise."""
    return np.random.default_rng(height).normal(size=(count, 3, height, width)).astype(np.float32)


def assert_equal(found: Float32, expected: Float32, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.req("R4", "R6")
@ON_EITHER_BACKBONE
@pytest.mark.parametrize("sizes", [SIZES, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
def test_logits_are_those_of_mxnet(
    sizes: list[tuple[int, int]], mxnet: GluonBackend, openvino: OpenVinoBackend, onnx_runtime: Any
) -> None:
    for height, width in sizes:
        image = picture(height, width)
        expected = mxnet.logits(image)
        assert expected.std() > 0.1
        assert_equal(openvino.logits(image), expected)
        assert_equal(onnx_runtime.run(["logits"], {"image": image})[0], expected, 1e-5)


@ON_ONE
def test_several_pictures_at_once(openvino: OpenVinoBackend, onnx_runtime: Any) -> None:
    images = picture(40, 56, count=3)
    expected = np.concatenate([openvino.logits(images[i : i + 1]) for i in range(3)])
    assert_equal(openvino.logits(images), expected)
    assert_equal(onnx_runtime.run(["logits"], {"image": images})[0], expected)


@ON_ONE
def test_int8_is_close_to_f32_in_both_engines(
    content: bytes, model: ModelDescription, openvino: OpenVinoBackend
) -> None:
    """Pooled branches, concatenations and all; the second size is none of those that calibrated.

    All convolutions but the first and the last are computed in int8, by OpenVINO's own account.
    """
    network = onnx.load_from_string(content)
    image = picture(64, 80)
    rounded = to_int8(network, activation_ranges(network, [image], cores=1)).SerializeToString()
    fast = OpenVinoBackend(rounded, model.network, CLASSES, "f32", usable_cores())
    session = onnxruntime.InferenceSession(rounded, providers=["CPUExecutionProvider"])
    for given in (image, picture(97, 131)):
        expected = openvino.logits(given)
        for found in (fast.logits(given), session.run(["logits"], {"image": given})[0]):
            assert np.square(found - expected).mean() < 0.1**2 * np.square(expected - expected.mean()).mean()
    compiled = core().compile_model(core().read_model(rounded), "CPU", settings("f32", 1)).get_runtime_model()
    about = [node.get_rt_info() for node in compiled.get_ops()]
    kinds = [info["runtimePrecision"].astype(str) for info in about if info["layerType"].astype(str) == "Convolution"]
    assert sorted(kinds) == ["f32"] * 2 + ["u8"] * len(inner_convolutions(network))


@pytest.mark.filterwarnings("ignore:Cannot decide type", "ignore::DeprecationWarning")  # MXNet's own
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_symbol_gives_what_gluoncv_predicts(mx: Any, randomised: Any, tmp_path: Path, algorithm: str) -> None:
    """As MXNet loads it, without anything of ours."""
    oracle = randomised(algorithm, "resnet-50", CLASSES)
    oracle.save_parameters(str(tmp_path / "model_best.params"))
    params = write_symbol(describe(tmp_path), tmp_path / "network-symbol.json")
    network = mx.gluon.SymbolBlock.imports(str(tmp_path / "network-symbol.json"), ["data"], str(params))
    for height, width in SIZES[:2]:
        image = mx.nd.array(picture(height, width))
        assert_equal(network(image).asnumpy(), oracle.predict(image).asnumpy(), 1e-5)
