from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.types import IGNORED


@pytest.mark.parametrize("classes", [2, 5, 21, 254])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_pixel_accuracy_and_mean_iou_are_gluoncvs(mx: Any, classes: int, ignored: float) -> None:
    from gluoncv.utils.metrics import SegmentationMetric

    rng = np.random.default_rng(classes)
    found, expected = ConfusionMatrix(classes), SegmentationMetric(classes)
    for height, width in ((17, 23), (8, 8), (31, 5)):
        labels = rng.integers(0, classes - 1, (2, height, width))  # the last class is never annotated
        labels[rng.random(labels.shape) < ignored] = -1
        scores = rng.random((2, classes, height, width), np.float32)
        scores[0, 0] += 0.5
        expected.update(mx.nd.from_numpy(labels), mx.nd.from_numpy(scores))
        found.update(np.where(labels < 0, IGNORED, labels).astype(np.uint8), scores.argmax(1).astype(np.uint8))
        assert (found.pixel_accuracy(), found.mean_iou()) == pytest.approx(expected.get(), rel=1e-12)
