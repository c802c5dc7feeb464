from __future__ import annotations

import numpy as np
import pytest

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.types import IGNORED, UInt8


def _row(*values: int) -> UInt8:
    return np.array([values], np.uint8)


def test_measures_of_a_case_worked_by_hand() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(_row(0, 0, 0, 1, 1, 2), _row(0, 0, 1, 1, 1, 1))
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert matrix.pixel_accuracy() == 4 / 6
    assert matrix.iou() == [2 / 3, 2 / 4, 0.0, None]
    assert matrix.mean_iou() == pytest.approx((2 / 3 + 2 / 4 + 0 + 0) / 4)
    assert matrix.mean_iou_present() == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_a_class_only_predicted_is_absent_from_the_annotations() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(_row(0, 0), _row(0, 2))
    assert matrix.iou() == [0.5, None, None]


def test_ignored_pixels_count_nowhere_and_updates_add_up() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(_row(0, IGNORED, IGNORED), _row(0, 0, 1))
    matrix.update(_row(1, IGNORED), _row(1, 1))
    assert matrix.counts.tolist() == [[1, 0], [0, 1]]
    assert matrix.mean_iou() == 1.0


def test_nothing_counted_gives_numbers_all_the_same() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(_row(IGNORED), _row(1))
    assert (matrix.pixel_accuracy(), matrix.mean_iou(), matrix.mean_iou_present()) == (0.0, 0.0, None)
    assert matrix.iou() == [None, None]


def test_the_most_classes_there_can_be_do_not_overflow() -> None:
    matrix = ConfusionMatrix(254)
    labels = np.full((64, 64), 253, np.uint8)
    matrix.update(labels, labels)
    assert matrix.counts[253, 253] == 64 * 64
    assert matrix.counts.dtype == np.int64


def test_batches_and_many_rows_are_counted_in_blocks() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 400, 7), np.uint8)
    predicted = np.random.default_rng(1).integers(0, 3, labels.shape, np.uint8)
    matrix = ConfusionMatrix(3)
    matrix.update(labels, predicted)
    assert matrix.counts.tolist() == [[((labels == a) & (predicted == p)).sum() for p in range(3)] for a in range(3)]
