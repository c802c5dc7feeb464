"""The confusion matrix, and the scores of a segmentation computed from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semseg.types import IGNORED, UInt8

_ROWS_AT_ONCE = 256
"""Rows of pixels that are counted at a time, which bounds the memory for their int64 copies."""


class ConfusionMatrix:
    """Counts pixels by their annotated and their predicted class.

    counts: int64 (classes, classes), annotated class by row, predicted class by column.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: UInt8, predicted: UInt8) -> None:
        """Counts the pixels of two arrays of class ids, of the same shape; those labelled `IGNORED` do not count."""
        rows = labels.reshape(-1, labels.shape[-1]), predicted.reshape(-1, labels.shape[-1])
        for top in range(0, len(rows[0]), _ROWS_AT_ONCE):
            some, guesses = (part[top : top + _ROWS_AT_ONCE] for part in rows)
            counted = some != IGNORED
            pairs = some[counted].astype(np.int64) * self.num_classes + guesses[counted]
            self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def pixel_accuracy(self) -> float:
        """The share of counted pixels that are predicted right, 0 to 1; 0 if none was counted."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    def iou(self) -> list[float | None]:
        """Intersection over union of each class, 0 to 1; None for a class that is not in the annotations."""
        present = self.counts.sum(axis=1) > 0
        return [float(value) if there else None for value, there in zip(self._iou(), present, strict=True)]

    def mean_iou(self) -> float:
        """The mean IOU over all classes, with absent ones as 0: mIOU as the built-in algorithm computes it."""
        return float(self._iou().mean())

    def mean_iou_present(self) -> float | None:
        """The mean IOU over the classes in the annotations; None if there are none."""
        values = [value for value in self.iou() if value is not None]
        return sum(values) / len(values) if values else None

    def _iou(self) -> NDArray[np.float64]:
        right = np.diagonal(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - right
        return np.asarray(right / np.maximum(union, 1))
