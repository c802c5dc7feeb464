from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.evaluation import boundary
from semseg.evaluation.boundary import TOLERANCE, BoundaryF1, boundary_f1
from semseg.types import IGNORED, UInt8

CLASSES = 5


def _masks(seed: int, height: int, width: int) -> tuple[UInt8, UInt8]:
    """Rectangles of classes 0 to 3 with an ignored region, and the same moved, with one more: class 4 only there."""
    generator = np.random.default_rng(seed)
    labels, predicted = np.zeros((2, height, width), np.uint8)
    for label in generator.integers(0, 4, 12):
        top, left = generator.integers(0, (height, width))
        rows, columns = generator.integers(1, (height // 2 + 2, width // 2 + 2))
        labels[top : top + rows, left : left + columns] = label
        down, right = np.maximum(np.add((top, left), generator.integers(-3, 4, 2)), 0)
        predicted[down : down + rows, right : right + columns] = label
    predicted[: height // 3, : width // 4] = 4
    labels[: height // 5, width // 2 :] = IGNORED
    return labels, predicted


def _boundary(mask: UInt8, label: int) -> set[tuple[int, int]]:
    """The boundary of a class by its definition, pixel by pixel."""
    height, width = mask.shape
    return {
        (y, x)
        for y, x in zip(*np.nonzero(mask == label), strict=True)
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        if 0 <= v < height and 0 <= u < width and mask[v, u] != label
    }


def _share_near(pixels: set[tuple[int, int]], others: set[tuple[int, int]], radius: float) -> float:
    near = sum(any(math.dist(pixel, other) <= radius for other in others) for pixel in pixels)
    return near / len(pixels) if pixels else 1.0


def _by_definition(labels: UInt8, predicted: UInt8) -> list[float | None]:
    radius = TOLERANCE * math.hypot(*labels.shape)
    scores: list[float | None] = []
    for label in range(CLASSES):
        real = _boundary(labels, label)
        guessed = _boundary(np.where(labels == IGNORED, IGNORED, predicted).astype(np.uint8), label)
        recall, precision = _share_near(real, guessed, radius), _share_near(guessed, real, radius)
        f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
        scores.append(f1 if real or guessed else None)
    return scores


@pytest.mark.parametrize(
    ("seed", "height", "width"),
    [(0, 60, 80), (1, 300, 20), (2, 20, 400), (3, 560, 30), (4, 1, 9), (5, 7, 1), (6, 1, 1), (7, 150, 150)],
)
def test_the_score_is_that_of_the_definition(seed: int, height: int, width: int) -> None:
    labels, predicted = _masks(seed, height, width)
    assert boundary_f1(labels, predicted, CLASSES) == pytest.approx(_by_definition(labels, predicted))


def test_a_contour_within_the_tolerance_is_right_and_one_beyond_it_wrong() -> None:
    labels, near, beyond = np.zeros((3, 300, 400), np.uint8)  # a diagonal of 500: a tolerance of 3.75 pixels
    labels[:, 200:], near[:, 203:], beyond[:, 204:] = 1, 1, 1
    assert boundary_f1(labels, labels, 2) == [1.0, 1.0]
    assert boundary_f1(labels, near, 2) == [1.0, 1.0]
    assert boundary_f1(labels, beyond, 2) == [0.0, 0.0]


def test_a_class_without_a_boundary_in_either_mask_has_no_score() -> None:
    whole = np.zeros((20, 20), np.uint8)
    assert boundary_f1(whole, whole, 3) == [None, None, None]
    half = whole.copy()
    half[10:] = 1
    assert boundary_f1(half, whole, 3) == [0.0, 0.0, None]
    assert boundary_f1(whole, half, 3) == [0.0, 0.0, None]


def test_a_predicted_contour_in_an_ignored_band_agrees_with_the_annotation_around_it() -> None:
    """As in PASCAL VOC, whose objects are surrounded by an ignored band."""
    labels, predicted = np.zeros((2, 300, 400), np.uint8)
    labels[100:200, 100:200] = IGNORED
    labels[103:197, 103:197] = 1
    predicted[101:199, 101:199] = 1
    assert boundary_f1(labels, predicted, 2) == [1.0, 1.0]


def test_the_edge_of_an_ignored_region_is_no_contour_that_a_prediction_could_miss() -> None:
    """As at the car that holds the camera, below a street."""
    labels, right, wrong = np.zeros((3, 300, 400), np.uint8)
    labels[200:] = IGNORED
    wrong[190:], right[220:] = 1, 1  # what is predicted for ignored pixels does not matter
    assert boundary_f1(labels, right, 2) == [1.0, None]
    assert boundary_f1(labels, wrong, 2) == [0.0, 0.0]


def test_the_mean_is_over_the_images_of_each_class_and_then_over_the_classes() -> None:
    scores, annotated = BoundaryF1(3), [True] * 3
    assert (scores.mean(annotated), scores.classes(annotated)) == (None, [None] * 3)
    scores.add([1.0, 0.0, None])
    scores.add([0.5, None, None])
    assert scores.classes(annotated) == [0.75, 0.0, None]
    assert scores.mean(annotated) == 0.375
    assert scores.classes([True, False, False]) == [0.75, None, None]
    assert scores.mean([True, False, False]) == 0.75


def test_the_memory_is_that_of_blocks_of_rows() -> None:
    """Besides the maps of boundaries, a few bytes a pixel, whatever the height."""
    labels, predicted = _masks(0, 6000, 400)
    tracemalloc.start()
    boundary_f1(labels, predicted, CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * labels.size + 40 * 600 * 400


def test_pixels_on_no_boundary_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[tuple[int, ...]] = []
    near = boundary._near

    def watched(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
        searched.append(mask.shape)
        return near(mask, radius)

    monkeypatch.setattr(boundary, "_near", watched)
    labels = np.zeros((200, 300), np.uint8)
    assert boundary_f1(labels, labels, CLASSES) == [None] * CLASSES
    assert searched == []
    labels[100:110, 100:120] = 1
    assert boundary_f1(labels, labels, CLASSES)[:3] == [1, 1, None]
    assert max(height * width for height, width in searched) == 12 * 22
