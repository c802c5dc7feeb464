"""The measures of a segmentation, for each class and over all of them, from a confusion matrix.

With TP, FP and FN the counted pixels of a class that are predicted right, predicted wrongly as it, and missed:
IoU = TP / (TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semseg.evaluation.confusion import ConfusionMatrix


@dataclass(frozen=True)
class ClassMeasures:
    """The measures of one class, each 0 to 1; None for a class that is not in the annotations.

    precision: 0 for a class that is annotated but never predicted. support, predicted: the pixels that are annotated
    and that are predicted as this class.
    """

    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Means:
    """The means of the measures over several classes, each class with the same weight, 0 to 1."""

    iou: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Measures:
    """The measures of a segmentation.

    classes: in the order of the ids. pixels: those counted, without ignored ones. pixel_accuracy: the share of them
    that are predicted right. mean_all: over all classes, with absent ones as 0; its `iou` is the mIOU of the built-in
    algorithm. mean_present: over the classes in the annotations; None if there are none. frequency_weighted_iou: the
    sum of each class's IoU times its share of the annotated pixels (Long et al., Fully Convolutional Networks, 2015).
    The shares are 0 to 1, and 0 if no pixel was counted.
    """

    classes: tuple[ClassMeasures, ...]
    pixels: int
    pixel_accuracy: float
    mean_all: Means
    mean_present: Means | None
    frequency_weighted_iou: float

    def as_json(self, names: Sequence[str] | None = None) -> dict[str, object]:
        """Returns the measures as an object for JSON, where None becomes null.

        names: those of the classes in the order of the ids, if they have any. The keys are the names of the fields;
        each object in `classes` has its id as `class` and its `name`, null without names, besides its measures.
        """
        labels: Sequence[str | None] = names or [None] * len(self.classes)
        return asdict(self) | {
            "classes": [
                {"class": number, "name": name} | asdict(measures)
                for number, (name, measures) in enumerate(zip(labels, self.classes, strict=True))
            ]
        }


def measures(matrix: ConfusionMatrix) -> Measures:
    """Computes all measures of the pixels that a confusion matrix has counted."""
    counts = matrix.counts
    right, support, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    columns = np.stack(
        [
            _ratio(right, support + predicted - right),
            _ratio(right, predicted),
            _ratio(right, support),
            _ratio(2 * right, support + predicted),
        ]
    )
    present = support > 0
    pixels = int(support.sum())
    return Measures(
        classes=tuple(
            _of_class(*of_class)
            for of_class in zip(support.tolist(), predicted.tolist(), columns.T.tolist(), strict=True)
        ),
        pixels=pixels,
        pixel_accuracy=matrix.pixel_accuracy(),
        mean_all=_means(np.where(present, columns, 0)),
        mean_present=_means(columns[:, present]) if present.any() else None,
        frequency_weighted_iou=float((columns[0] * support).sum() / max(pixels, 1)),
    )


def _of_class(support: int, predicted: int, values: Sequence[float]) -> ClassMeasures:
    """values: IoU, precision, recall and F1."""
    if not support:
        return ClassMeasures(None, None, None, None, support, predicted)
    iou, precision, recall, f1 = values
    return ClassMeasures(iou, precision, recall, f1, support, predicted)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, and 0 where both are 0."""
    return np.asarray(part / np.maximum(whole, 1))


def _means(columns: NDArray[np.float64]) -> Means:
    """The means of IoU, precision, recall and F1, float64 (4, classes), over the classes."""
    return Means(*columns.mean(axis=1).tolist())
