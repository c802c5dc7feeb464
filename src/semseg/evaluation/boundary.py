"""Boundary F1: how well the contours of predicted classes follow those of the annotations.

The measure of Csurka, Larlus and Perronnin, What is a good evaluation measure for semantic segmentation? (BMVC 2013): a
pixel on the boundary of a class counts as right if the other mask has a pixel on the boundary of this class within 0.75
percent of the image's diagonal. Precision is the share of right pixels on predicted boundaries, recall on annotated
ones, F1 their harmonic mean, in each image for each class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from semseg.types import IGNORED, UInt8

TOLERANCE = 0.0075
"""The distance within which boundaries agree, as a share of the image's diagonal."""

_LEAST_ROWS = 256
_NONE = IGNORED
"""The value in a map of boundaries of pixels that are on none."""

_Mask = NDArray[np.bool_]


class BoundaryF1:
    """Averages the boundary F1 of each class over images, and of the classes.

    An image counts for the classes with a boundary in its annotation or its prediction.
    """

    def __init__(self, num_classes: int) -> None:
        self._sums, self._images = np.zeros(num_classes), np.zeros(num_classes, np.int64)

    def add(self, scores: list[float | None]) -> None:
        """Adds an image by what `boundary_f1` returned for it."""
        known = np.array([score is not None for score in scores])
        self._sums += [score or 0.0 for score in scores]
        self._images += known

    def classes(self, annotated: Sequence[bool]) -> list[float | None]:
        """The mean of each class over its images, 0 to 1; None for one without any, or that is nowhere annotated.

        annotated: whether any image has annotated pixels of the class, for each class.
        """
        means = zip(self._sums.tolist(), self._images.tolist(), annotated, strict=True)
        return [total / images if images and there else None for total, images, there in means]

    def mean(self, annotated: Sequence[bool]) -> float | None:
        """The mean over the classes that have one, 0 to 1; None if there is none. annotated: as for `classes`."""
        known = [score for score in self.classes(annotated) if score is not None]
        return sum(known) / len(known) if known else None


def boundary_f1(labels: UInt8, predicted: UInt8, num_classes: int) -> list[float | None]:
    """Returns the boundary F1 of each class in one image, 0 to 1; None for a class without a boundary in either mask.

    labels, predicted: class ids, uint8 (H, W), `IGNORED` in labels where a pixel does not count. A boundary pixel has
    its class, and another label above, below, to its left or right; the image's edge is no boundary. Ignored pixels are
    of no class in the annotation and the prediction alike: what is predicted for them does not matter, and a class that
    is right beside an ignored region is right at its edge too. Takes time linear in pixels times classes, and memory
    for some hundred rows besides a few copies of a mask.
    """
    radius = TOLERANCE * math.hypot(*labels.shape)
    real, guessed = _boundaries(labels), _boundaries(np.where(labels == IGNORED, labels, predicted))
    found, right = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for inner, outer in _blocks(len(labels), math.floor(radius)):
        rows = slice(inner.start - outer.start, inner.stop - outer.start)
        for label in np.setdiff1d(np.intersect1d(real[outer], guessed[outer]), _NONE):
            on_real, on_guessed = real[outer] == label, guessed[outer] == label
            box = _bounding_box(on_real | on_guessed)
            found[label] += np.count_nonzero((on_real[box] & _near(on_guessed[box], radius))[_within(rows, box)])
            right[label] += np.count_nonzero((on_guessed[box] & _near(on_real[box], radius))[_within(rows, box)])
    all_real, all_guessed = (np.bincount(part.ravel(), minlength=256) for part in (real, guessed))
    scores = zip(found.tolist(), all_real.tolist(), right.tolist(), all_guessed.tolist(), strict=True)
    return [_f1(*counts) for counts in scores][:num_classes]


def _f1(found: int, real: int, right: int, guessed: int) -> float | None:
    """The F1 of `found` of the `real` boundary pixels and `right` of the `guessed` ones."""
    if not real and not guessed:
        return None
    recall, precision = (found / real if real else 1.0), (right / guessed if guessed else 1.0)
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _boundaries(labels: UInt8) -> UInt8:
    """A map of boundaries, uint8 (H, W): a boundary pixel's label, and _NONE elsewhere."""
    edges = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return np.where(edges, labels, np.uint8(_NONE))


def _blocks(height: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows, and each with the rows above and below it that the radius reaches."""
    size = max(_LEAST_ROWS, 4 * halo)
    for top in range(0, height, size):
        bottom = min(top + size, height)
        yield slice(top, bottom), slice(max(0, top - halo), min(bottom + halo, height))


def _bounding_box(mask: _Mask) -> tuple[slice, slice]:
    """The rows and columns with a true value in a mask that has at least one."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _within(rows: slice, box: tuple[slice, slice]) -> slice:
    """The rows, counted within a box, that belong to both."""
    start = box[0].start
    return slice(max(0, rows.start - start), max(0, rows.stop - start))


def _near(mask: _Mask, radius: float) -> _Mask:
    """The pixels within a Euclidean distance of a true value: bool (H, W), in linear time for any radius.

    A pixel whose nearest true value in its column is g away reaches sqrt(radius * radius - g * g) pixels to its left
    and right: the result is the union of these intervals, which running maxima give.
    """
    height, width = mask.shape
    none = math.floor(radius) + 1
    row, column = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)
    above = np.maximum.accumulate(np.where(mask, row, np.int32(-none)), axis=0)
    below = np.minimum.accumulate(np.where(mask, row, np.int32(height + none))[::-1], axis=0)[::-1]
    distance = np.minimum(np.minimum(row - above, below - row), none)
    reach = np.array([math.floor(math.sqrt(radius * radius - g * g)) for g in range(none)] + [-width - 1], np.int32)
    right, left = column + reach[distance], column - reach[distance]
    covered = np.maximum.accumulate(right, axis=1) >= column
    covered |= np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1] <= column
    return covered
