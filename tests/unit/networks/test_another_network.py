"""A new network needs only a definition: the one declared here goes through everything derived from definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy_layers import NumpyLayers

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.params import write_params
from semseg.engines.openvino.engine import OpenVinoEngine
from semseg.engines.protocols import Backend, BackendOptions
from semseg.errors import FormatError
from semseg.inference.predictor import LogitsPrediction, Predictor, normalise
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, titles
from semseg.networks.identify import Identity, identify
from semseg.networks.layers import Layers, T
from semseg.networks.onnx import onnx_model
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays, Classes, Float32

CLASSES = 5


def _encoder(layers: Layers[T], image: T) -> Sequence[T]:
    """Strides 4, 8 and 16; channels 4, 6 and 8."""
    x = layers.relu(layers.convolution(image, "stem", 4, 3, stride=2, norm="stem_norm"))
    stages = []
    for name, channels in (("fine", 4), ("middle", 6), ("deep", 8)):
        x = layers.relu(layers.convolution(x, name, channels, 3, stride=2, norm=f"{name}_norm"))
        stages.append(x)
    return stages


def _decoder(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    """From the deepest stage up: each is stretched to the size of the one before it and concatenated with it."""
    x = stages[-1]
    for number, finer in enumerate(reversed(stages[:-1])):
        joined = layers.concatenate([layers.stretch(x, like=finer), finer])
        x = layers.relu(layers.convolution(joined, f"decoder.{number}", 4, 3, norm=f"decoder.{number}_norm"))
    return layers.convolution(layers.dropout(x, 0.1), "decoder.classifier", num_classes)


SMALL = Backbone("small", "Small encoder", _encoder)
LADDER = Network("ladder", "Ladder", _decoder, None, "decoder.classifier", 4, {"openvino": 100})


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Random parameters, whose statistics are neither 0 nor 1."""
    found = initial_values(parameter_table(LADDER, SMALL, CLASSES), seed=0)
    rng = np.random.default_rng(1)
    drawn = {
        name: rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        for name, array in found.items()
        if not name.endswith(".weight")
    }
    return found | drawn


@pytest.fixture(scope="module")
def model(arrays: Arrays) -> onnx.ModelProto:
    return onnx_model(LADDER, SMALL, CLASSES, arrays, "the test")


def run(model: onnx.ModelProto, images: Float32) -> Float32:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Float32 = session.run(["logits"], {"image": images})[0]
    return result


def test_its_table_has_its_names_shapes_and_rates() -> None:
    table = parameter_table(LADDER, SMALL, CLASSES)
    weights = {
        name.removesuffix(".weight"): (parameter.shape, parameter.rate)
        for name, parameter in table.items()
        if name.endswith(".weight")
    }
    assert weights == {
        "stem": ((4, 3, 3, 3), 1),
        "fine": ((4, 4, 3, 3), 1),
        "middle": ((6, 4, 3, 3), 1),
        "deep": ((8, 6, 3, 3), 1),
        "decoder.0": ((4, 14, 3, 3), 10),
        "decoder.1": ((4, 8, 3, 3), 10),
        "decoder.classifier": ((5, 4, 1, 1), 10),
    }
    assert len(table) == 7 + 6 * 4 + 1  # weights, batch normalisations, the classifier's bias
    assert parameter_table(LADDER, SMALL, CLASSES, auxiliary=False) == table


def test_it_is_known_by_its_names_among_the_others(arrays: Arrays) -> None:
    networks, backbones = (*NETWORKS, LADDER), (*BACKBONES, SMALL)
    assert identify(arrays, networks, backbones) == Identity(LADDER, SMALL, CLASSES, auxiliary=False)
    with pytest.raises(FormatError, match=r"^does not hold Ladder on Small encoder, .* stem_norm\.beta is missing$"):
        identify({name: array for name, array in arrays.items() if name != "stem_norm.beta"}, networks, backbones)
    with pytest.raises(FormatError, match=f"known here: {titles(NETWORKS)} on {titles(BACKBONES)}$"):
        identify(arrays)
    with pytest.raises(FormatError, match=r"known here: .* or Ladder on .* or Small encoder$"):
        identify({}, networks, backbones)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 4), (33, 47), (64, 64)])
def test_its_onnx_model_computes_what_its_layers_say(
    model: onnx.ModelProto, arrays: Arrays, height: int, width: int
) -> None:
    onnx.checker.check_model(model, full_check=True)
    images = np.random.default_rng(height).normal(size=(2, 3, height, width)).astype(np.float32)
    logits = run(model, images)
    assert logits.shape == (2, CLASSES, -(-height // 4), -(-width // 4))
    expected, auxiliary = LADDER.build(NumpyLayers(arrays), images, SMALL, CLASSES, auxiliary=True)
    assert auxiliary is None
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_case_computed_by_hand() -> None:
    """One pixel of 1: only the centre of each kernel sees it, and weights of 1 add up the channels."""
    table = parameter_table(LADDER, SMALL, CLASSES)
    ones: Arrays = {name: np.ones(parameter.shape, np.float32) for name, parameter in table.items()}
    plain = ones | {name: np.zeros_like(ones[name]) for name in ones if name.endswith((".beta", "_mean", ".bias"))}
    # stem 3, fine 4 x 3 = 12, middle 4 x 12 = 48, deep 6 x 48 = 288; the decoder has 8 x 288 + 6 x 48 = 2592 of the
    # middle stage, 4 x 2592 + 4 x 12 = 10416 of the fine one, and the classifier 4 x 10416
    logits = run(onnx_model(LADDER, SMALL, CLASSES, plain, "the test"), np.ones((1, 3, 1, 1), np.float32))
    np.testing.assert_allclose(logits, np.full((1, CLASSES, 1, 1), 41664), rtol=1e-4)  # variances are 1 + 1e-5


@pytest.fixture(scope="module")
def served(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """The backend that serves a directory with these parameters."""
    path = tmp_path_factory.mktemp("model") / "model_best.params"
    write_params(path, arrays)
    engine = OpenVinoEngine()
    described = ModelDescription(LADDER, SMALL, CLASSES, None, False, path, Classes.unknown(CLASSES))
    return engine.backend(described, engine.cpu(), BackendOptions("f32"))


def test_openvino_computes_what_its_layers_say(served: Backend, arrays: Arrays) -> None:
    assert (served.stride, served.bytes_per_pixel) == (4, 100)
    images = np.random.default_rng(7).normal(size=(1, 3, 33, 47)).astype(np.float32)
    expected, _ = LADDER.build(NumpyLayers(arrays), images, SMALL, CLASSES, auxiliary=False)
    np.testing.assert_allclose(served.logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (301, 270)])
def test_its_predictions_are_those_of_its_logits_and_hardly_others_in_tiles(
    served: Backend, arrays: Arrays, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(8).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected, _ = LADDER.build(NumpyLayers(arrays), normalise(image), SMALL, CLASSES, auxiliary=False)
    found = Predictor(served, CLASSES, 10**6).predict(image).labels()
    assert (found == LogitsPrediction(expected[0], *size).labels()).mean() > 0.999
    in_tiles = Predictor(served, CLASSES, SMALLEST_BUDGET).predict(image).labels()
    assert (found == in_tiles).mean() > 0.9
