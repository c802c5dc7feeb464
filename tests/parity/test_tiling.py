"""Real networks on tiles against the same networks on whole images; exactness is shown in tests/unit/inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from untrained import random_arrays

from semseg.artifact.model_dir import describe
from semseg.codecs.params import write_params
from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.exporting.onnx_model import build_onnx
from semseg.inference.predictor import Predictor
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.machine import usable_cores
from semseg.networks.definitions import NETWORKS

CLASSES = 5


@pytest.mark.parametrize(
    ("algorithm", "least"),
    [
        pytest.param("fcn", 0.9, marks=pytest.mark.slow),
        pytest.param("psp", 0.9, marks=pytest.mark.slow),
        ("deeplab", 0.6),
    ],
)
def test_most_pixels_get_the_class_that_the_whole_image_gives(tmp_path: Path, algorithm: str, least: float) -> None:
    """With random weights, and tiles as small as can be: a trained network agrees more, see tests/bench/tiles.py.

    What DeepLab pools is the mean of all it sees, which it weighs as much as each of its four convolutions.
    """
    write_params(tmp_path / "model_best.params", random_arrays(algorithm, "resnet-50", CLASSES))
    network = OpenVinoBackend(build_onnx(describe(tmp_path)), NETWORKS[0], CLASSES, "f32", usable_cores())
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (264, 403, 3), dtype=np.uint8))
    image = np.array(noise.filter(ImageFilter.GaussianBlur(12)).point(lambda value: (value - 112) * 8))
    whole, tiles = (Predictor(network, CLASSES, pixels).predict(image).labels() for pixels in (10**6, SMALLEST_BUDGET))
    assert len(set(whole.flat)) > 1
    assert least < (whole == tiles).mean() < 1
