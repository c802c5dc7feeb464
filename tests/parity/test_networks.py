"""This project's networks against plain GluonCV: names, shapes, initial values, and logits on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from untrained import ALGORITHMS, ENCODERS

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.codecs.params import read_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.backend import GluonBackend, load_backend
from semseg.engines.openvino.backend import OpenVinoBackend, core, settings
from semseg.exporting.calibration import activation_ranges
from semseg.exporting.onnx_model import build_onnx
from semseg.exporting.qdq import inner_convolutions, to_int8
from semseg.exporting.symbol import write_symbol
from semseg.inference.predictor import Predictor, normalise
from semseg.machine import usable_cores
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays, Float32, UInt8

CLASSES = 5
SIZES = [(64, 64), (57, 83), (3, 40), (1, 1)]
LARGE = (181, 500)

ALL = [(algorithm, backbone) for backbone in ENCODERS for algorithm in ALGORITHMS]
ON_ONE_BACKBONE = ALL[: len(ALGORITHMS)]


def each(*fast: tuple[str, str]) -> list[Any]:
    """All networks, as parameters of `oracle`; those that are not `fast` are for the slow tests."""
    return [pytest.param(pair, id="-".join(pair), marks=[] if pair in fast else [pytest.mark.slow]) for pair in ALL]


def only(*fast: tuple[str, str]) -> pytest.MarkDecorator:
    """For tests that need fewer networks: those that are not `fast` are for the slow tests."""
    return pytest.mark.parametrize("oracle", each(*fast), indirect=True, scope="module")


@dataclass(frozen=True)
class Oracle:
    """A GluonCV network, of which no parameter and no running statistic is 0 or 1, and its file.

    name: of algorithm and backbone; initial: its values before they were drawn at random; images: normalised, of the
    sizes above; predicted: what GluonCV makes of them; classes: what it makes of `blurred_noise`. All is predicted
    beforehand, because whoever hybridizes the layers fixes their sizes.
    """

    name: tuple[str, str]
    network: Any
    described: ModelDescription
    initial: Arrays
    images: list[Float32]
    predicted: list[Float32]
    classes: NDArray[np.int64]


@pytest.fixture(scope="module", params=each(*ON_ONE_BACKBONE, ("fcn", "resnet-101")))
def oracle(
    mx: Any, plain: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Oracle]:
    """The backbones differ in the number of their blocks alone: one network is enough for the second."""
    network = plain(*request.param, CLASSES)
    initialise(mx, network)
    parameters = network._collect_params_with_prefix()
    initial = {name: parameter.data().asnumpy() for name, parameter in parameters.items()}
    randomise(parameters, initial)
    folder = tmp_path_factory.mktemp("network")
    network.save_parameters(str(folder / "model_best.params"))
    images = [noise(*size) for size in SIZES]
    predicted = [network.predict(on_device(image)).asnumpy() for image in images]
    classes = network.predict(on_device(normalise(blurred_noise()))).asnumpy()[0].argmax(axis=0)
    described = describe(folder)
    yield Oracle(request.param, network, described, initial, images, predicted, classes)
    described.params.unlink()


def initialise(mx: Any, network: Any) -> None:
    """Gives a network its initial values: Xavier's for the backbone, as GluonCV's training has it."""
    mx.random.seed(7)
    network.collect_params().setattr("grad_req", "null")  # memory for gradients would have to be filled
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
        getattr(network, name).initialize(mx.init.Xavier())
    # settles the shapes; it brings weights into oneDNN's layout, and reading one meanwhile fails
    network.predict(mx.nd.zeros((1, 3, 32, 32))).wait_to_read()


def randomise(parameters: dict[str, Any], initial: Arrays) -> None:
    """Gives a network values that are the same in every run: MXNet's depend on what was drawn before the seed too."""
    rng = np.random.default_rng(7)
    for name, parameter in parameters.items():
        drawn = rng.standard_normal(parameter.shape, dtype=np.float32)
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(on_device(np.clip(1 + 0.3 * drawn, 0.5, 1.5)))
        elif name.endswith(("beta", "running_mean", "bias")):
            parameter.set_data(on_device(0.2 * drawn))
        else:
            parameter.set_data(on_device(initial[name].std() * drawn))


def on_device(array: Float32) -> Any:
    return runtime.to_device(array, runtime.load().cpu())


def blurred_noise() -> UInt8:
    """An image with larger areas of one class."""
    noise = Image.fromarray(np.random.default_rng(6).integers(0, 256, (97, 131, 3), dtype=np.uint8))
    return np.array(noise.filter(ImageFilter.GaussianBlur(6)).point(lambda value: (value - 112) * 8))


def noise(height: int, width: int, count: int = 1) -> Float32:
    """A normalised image of noise."""
    return np.random.default_rng(height).normal(size=(count, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def backend(mx: Any, oracle: Oracle) -> GluonBackend:
    """MXNet's backend of the file, which has no auxiliary head."""
    model = oracle.described
    return load_backend(model.network, model.backbone, CLASSES, read_params(model.params), "f", mx.cpu())


@pytest.fixture(scope="module")
def content(oracle: Oracle) -> bytes:
    """The file as an ONNX model."""
    return build_onnx(oracle.described)


@pytest.fixture(scope="module")
def openvino(oracle: Oracle, content: bytes) -> OpenVinoBackend:
    return OpenVinoBackend(content, oracle.described.network, CLASSES, "f32", usable_cores())


@pytest.fixture(scope="module")
def onnx_runtime(content: bytes) -> Any:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def assert_equal(found: Float32, expected: Float32, tolerance: float = 1e-5) -> None:
    """Each value differs by at most the tolerance, relative to the largest expected one."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def resized(mx: Any, logits: Any, like: Float32) -> Float32:
    """Logits at an eighth of the size, stretched as GluonCV stretches them."""
    height, width = like.shape[2:]
    assert logits.shape == (1, CLASSES, -(-height // 8), -(-width // 8))
    stretched: Float32 = mx.nd.contrib.BilinearResize2D(logits, height=height, width=width).asnumpy()
    return stretched


@pytest.mark.req("R3", "R4", "R5", "R6")
def test_logits_at_any_size_are_gluoncvs(mx: Any, oracle: Oracle) -> None:
    """One graph serves all sizes, and the first again."""
    layers = networks.LowResolutionLogits(oracle.network, aux=True)
    layers.hybridize()
    for image, expected in [
        *zip(oracle.images, oracle.predicted, strict=True),
        (oracle.images[0], oracle.predicted[0]),
    ]:
        assert_equal(resized(mx, layers(on_device(image))[0], expected), expected)
    oracle.network.predict(on_device(oracle.images[0])).wait_to_read()  # sets the size of its upsampling
    _, expected = oracle.network(on_device(oracle.images[0]))
    _, auxiliary = layers(on_device(oracle.images[0]))
    assert_equal(resized(mx, auxiliary, expected), expected.asnumpy())


@pytest.mark.req("R5", "R10")
def test_mxnet_serves_what_gluoncv_predicts(mx: Any, oracle: Oracle, backend: GluonBackend) -> None:
    for image, expected in zip(oracle.images, oracle.predicted, strict=True):
        assert_equal(resized(mx, on_device(backend.logits(image)), expected), expected)


@pytest.mark.req("R4", "R6")
@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["small", "large"])
def test_the_onnx_model_computes_what_mxnet_does(
    oracle: Oracle, backend: GluonBackend, openvino: OpenVinoBackend, onnx_runtime: Any, large: bool
) -> None:
    for image in [noise(*LARGE)] if large else oracle.images:
        expected = backend.logits(image)
        assert expected.std() > 0.1
        assert_equal(openvino.logits(image), expected, 1e-4)
        assert_equal(onnx_runtime.run(["logits"], {"image": image})[0], expected)


@only(*ON_ONE_BACKBONE)
def test_several_images_at_once(openvino: OpenVinoBackend, onnx_runtime: Any) -> None:
    images = noise(40, 24, count=3)
    expected = np.concatenate([openvino.logits(images[i : i + 1]) for i in range(3)])
    assert_equal(openvino.logits(images), expected, 1e-4)
    assert_equal(onnx_runtime.run(["logits"], {"image": images})[0], expected, 1e-4)


@pytest.mark.req("R51")
@only(*ON_ONE_BACKBONE)
def test_a_mask_is_the_argmax_of_gluoncvs_output(
    oracle: Oracle, backend: GluonBackend, openvino: OpenVinoBackend
) -> None:
    """On 99.99 % of the pixels: elsewhere two classes are equal but for rounding."""
    assert len(set(oracle.classes.flat)) > 1
    for network in (backend, openvino):
        found = Predictor(network, CLASSES, 10**6).predict(blurred_noise()).labels()
        assert (found == oracle.classes).mean() >= 0.9999


@only(("deeplab", "resnet-50"))
@pytest.mark.filterwarnings("ignore:Cannot decide type", "ignore::DeprecationWarning")  # MXNet's own
def test_the_symbol_computes_what_gluoncv_predicts(mx: Any, oracle: Oracle, tmp_path: Path) -> None:
    """Loaded by MXNet, without any code of this project."""
    params = write_symbol(oracle.described, tmp_path / "network-symbol.json")
    network = mx.gluon.SymbolBlock.imports(str(tmp_path / "network-symbol.json"), ["data"], str(params))
    for image, expected in zip(oracle.images[:2], oracle.predicted, strict=False):
        assert_equal(network(on_device(image)).asnumpy(), expected)


@only(("psp", "resnet-50"), ("deeplab", "resnet-50"))
def test_int8_is_close_to_f32(oracle: Oracle, content: bytes, openvino: OpenVinoBackend) -> None:
    """In both engines, pooled branches and concatenations included. The second image did not calibrate the network.

    All convolutions but the first and the last are computed in int8, by OpenVINO's own account.
    """
    network = onnx.load_from_string(content)
    image = noise(64, 80)
    rounded = to_int8(network, activation_ranges(network, [image], cores=1)).SerializeToString()
    fast = OpenVinoBackend(rounded, oracle.described.network, CLASSES, "f32", usable_cores())
    session = onnxruntime.InferenceSession(rounded, providers=["CPUExecutionProvider"])
    for given in (image, noise(57, 83)):
        expected = openvino.logits(given)
        for found in (fast.logits(given), session.run(["logits"], {"image": given})[0]):
            assert np.square(found - expected).mean() < 0.1**2 * np.square(expected - expected.mean()).mean()
    compiled = core().compile_model(core().read_model(rounded), "CPU", settings("f32", 1)).get_runtime_model()
    about = [node.get_rt_info() for node in compiled.get_ops()]
    kinds = [info["runtimePrecision"].astype(str) for info in about if info["layerType"].astype(str) == "Convolution"]
    assert sorted(kinds) == ["f32"] * 2 + ["u8"] * len(inner_convolutions(network))


@pytest.mark.req("R4", "R6")
def test_a_file_of_gluoncv_describes_itself(oracle: Oracle) -> None:
    model, expected = oracle.described, oracle.network._collect_params_with_prefix()
    assert (model.network.name, model.backbone.name) == oracle.name
    assert (model.num_classes, model.aux) == (CLASSES, True)
    arrays = read_params(model.params)
    assert arrays.keys() == expected.keys()
    for name, parameter in expected.items():
        np.testing.assert_array_equal(arrays[name], parameter.data().asnumpy())


@pytest.mark.req("R8")
def test_the_initial_values_are_gluoncvs(oracle: Oracle) -> None:
    model = oracle.described
    for name, found in initial_values(parameter_table(model.network, model.backbone, CLASSES), seed=0).items():
        expected = oracle.initial[name]
        assert found.dtype == expected.dtype
        if name.endswith(".weight"):
            np.testing.assert_allclose(np.abs(found).max(), np.abs(expected).max(), rtol=0.02, err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.req("R8")
@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize(("algorithm", "backbone"), ALL)
def test_names_shapes_and_rates_are_gluoncvs(
    mx: Any, plain: Any, algorithm: str, backbone: str, auxiliary: bool
) -> None:
    model = plain(algorithm, backbone, CLASSES, crop_size=64, aux=auxiliary)
    model.infer_shape(mx.nd.zeros((1, 3, 64, 64)))
    expected = model._collect_params_with_prefix()
    table = parameter_table(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES, auxiliary)
    assert {
        name: (parameter.shape, parameter.rate, "write" if parameter.trained else "null")
        for name, parameter in table.items()
    } == {name: (parameter.shape, parameter.lr_mult, parameter.grad_req) for name, parameter in expected.items()}
