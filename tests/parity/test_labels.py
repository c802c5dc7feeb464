"""Masks against the argmax of plain GluonCV's output, which is upsampled at once and in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from untrained import ALGORITHMS

from semseg.inference.load import load_predictor
from semseg.inference.predictor import normalise


@pytest.mark.req("R51")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_mask_is_the_argmax_of_gluoncv_s_output(mx: Any, randomised: Any, tmp_path: Path, algorithm: str) -> None:
    """On 99.99 % of the pixels: elsewhere two classes are equal but for rounding."""
    oracle = randomised(algorithm, "resnet-50", 5)
    oracle.save_parameters(str(tmp_path / "model_best.params"))
    predictors = [load_predictor(tmp_path, backend, "f32").predictor for backend in ("mxnet", "openvino")]
    for height, width in [(97, 131), (160, 240)]:
        noise = Image.fromarray(np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8))
        picture = np.array(noise.filter(ImageFilter.GaussianBlur(6)).point(lambda value: (value - 112) * 8))
        expected = oracle.predict(mx.nd.from_numpy(normalise(picture))).asnumpy()[0].argmax(axis=0)
        assert len(set(expected.flat)) > 1
        for predictor in predictors:
            assert (predictor.predict(picture).labels() == expected).mean() >= 0.9999
