"""Measures the accuracy of predictors on whole images, segmented as in serving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.inference.predictor import Predictor
from semseg.types import UInt8

Labelled = tuple[UInt8, UInt8 | None]
"""An image, RGB uint8 (H, W, 3), and its labels, uint8 (H, W) with 255 = ignored, or None if they are unknown."""


def score_pairs(predictors: Sequence[Predictor], pairs: Iterable[Labelled]) -> tuple[list[ConfusionMatrix], int]:
    """Return the confusion matrix of each predictor over all pairs, and the number of images.

    pairs: read one at a time. For an image without labels, the first predictor's prediction counts as the truth.
    Raises what the predictors and `pairs` raise.
    """
    matrices = [ConfusionMatrix(predictor.num_classes) for predictor in predictors]
    images = 0
    for image, labels in pairs:
        truth = labels
        for predictor, matrix in zip(predictors, matrices, strict=True):
            found = predictor.predict(image).labels()
            truth = found if truth is None else truth
            matrix.update(truth, found)
        images += 1
    return matrices, images
