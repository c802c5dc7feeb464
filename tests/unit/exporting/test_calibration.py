from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from discerning import noisy_image
from onnx import TensorProto, helper, numpy_helper

from semseg.artifact.model_dir import describe
from semseg.errors import ArtifactError
from semseg.exporting.calibration import activation_ranges, rounding_noise
from semseg.exporting.onnx_model import build_onnx
from semseg.exporting.qdq import inner_convolutions, to_int8
from semseg.inference.predictor import normalise
from semseg.types import Float32


@pytest.fixture
def network(small_dir: Path) -> onnx.ModelProto:
    return onnx.load_from_string(build_onnx(describe(small_dir)))


@pytest.fixture(scope="module")
def images() -> list[Float32]:
    return [normalise(noisy_image(level)[:, : 40 + seed]) for seed, level in enumerate((40, 200))]  # sizes may differ


def computed(network: onnx.ModelProto, names: list[str], image: Float32) -> list[Float32]:
    """What ONNX Runtime, another engine, finds in the midst of the network."""
    probed = onnx.ModelProto()
    probed.CopyFrom(network)
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Float32] = session.run(names, {"image": image})
    return found


def test_ranges_are_those_of_all_images(network: onnx.ModelProto, images: list[Float32]) -> None:
    ranges = activation_ranges(network, images, cores=1)
    assert set(ranges) == {node.input[0] for node in inner_convolutions(network).values()}
    values = [computed(network, list(ranges), image) for image in images]
    for place, limits in enumerate(ranges.values()):
        both = [tensors[place] for tensors in values]
        expected = min(tensor.min() for tensor in both), max(tensor.max() for tensor in both)
        np.testing.assert_allclose(limits, expected, rtol=1e-3, atol=1e-4)


def test_values_that_are_not_finite_are_an_error(network: onnx.ModelProto, images: list[Float32]) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(network)
    bias = next(constant for constant in broken.graph.initializer if constant.name == "inner.3.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(8, np.inf, np.float32), bias.name))
    with pytest.raises(ArtifactError, match="values that are not finite"):
        activation_ranges(broken, images[:1], cores=1)


def test_noise_is_what_rounding_one_convolution_adds_to_it(network: onnx.ModelProto, images: list[Float32]) -> None:
    ranges = activation_ranges(network, images, cores=1)
    noise = rounding_noise(network, ranges, images[:1], cores=1)
    assert list(noise) == list(inner_convolutions(network))
    for name in ("inner.0.weight", "inner.7.weight", "inner.15.weight"):
        output = inner_convolutions(network)[name].output[0]
        alone = to_int8(network, ranges, exact=set(noise) - {name})
        (exact,), (rounded,) = (computed(model, [output], images[0]) for model in (network, alone))
        expected = np.sqrt(np.square(rounded - exact).sum() / np.square(exact).sum())
        assert 0.001 < expected < 0.1
        assert noise[name] == pytest.approx(expected, rel=0.1)
