"""The view of a confusion matrix: the share of each class that is predicted as each, and what is confused most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semseg.evaluation.confusion import ConfusionMatrix

TABLE_CLASSES = 24
"""Up to this number of classes, the matrix is a table of numbers; above it, an image."""


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were predicted as another. share: of the class's pixels, 0 to 1."""

    annotated: int
    predicted: int
    pixels: int
    share: float


def normalised(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    """Returns the share of each class's pixels that is predicted as each class: (annotated, predicted), 0 to 1.

    The row of a class that is not in the annotations is 0.
    """
    counts = matrix.counts
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def top_confusions(matrix: ConfusionMatrix, count: int) -> list[Confusion]:
    """Returns the pairs of classes that are confused most, by their pixels, at most `count`."""
    wrong, shares = matrix.counts.copy(), normalised(matrix)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), matrix.num_classes) for place in order]
    return [Confusion(a, p, int(wrong[a, p]), float(shares[a, p])) for a, p in pairs if wrong[a, p]]
