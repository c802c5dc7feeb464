from __future__ import annotations

import json
from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_recall_fscore_support

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.evaluation.measures import Means, Measures, measures
from semseg.types import IGNORED, UInt8

CLASSES = 7


def _random_masks(seed: int) -> tuple[UInt8, UInt8]:
    """Annotations with ignored pixels and without the classes 2 and 5, and predictions without 3 and 5."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(np.array([0, 1, 3, 4, 6, IGNORED], np.uint8), (40, 50))
    guesses = generator.choice(np.array([0, 1, 2, 4, 6], np.uint8), labels.shape)
    right = (generator.random(labels.shape) < 0.6) & ~np.isin(labels, (3, IGNORED))
    return labels, np.where(right, labels, guesses)


def _measured(*masks: tuple[UInt8, UInt8], num_classes: int = CLASSES) -> tuple[ConfusionMatrix, Measures]:
    matrix = ConfusionMatrix(num_classes)
    for labels, predicted in masks:
        matrix.update(labels, predicted)
    return matrix, measures(matrix)


@pytest.mark.parametrize("seed", range(5))
def test_all_measures_are_those_of_scikit_learn(seed: int) -> None:
    masks = [_random_masks(seed), _random_masks(seed + 100)]
    matrix, found = _measured(*masks)

    truth, guess = (np.concatenate(arrays) for arrays in zip(*masks, strict=True))
    counted = truth != IGNORED
    truth, guess, ids = truth[counted], guess[counted], np.arange(CLASSES)
    precision, recall, f1, support = precision_recall_fscore_support(truth, guess, labels=ids, zero_division=0.0)
    iou = jaccard_score(truth, guess, labels=ids, average=None, zero_division=0.0)

    assert (matrix.counts == confusion_matrix(truth, guess, labels=ids)).all()
    assert [one.support for one in found.classes] == support.tolist()
    assert [one.predicted for one in found.classes] == np.bincount(guess, minlength=CLASSES).tolist()
    present = [label for label in ids if support[label]]
    assert present == [0, 1, 3, 4, 6]
    for label in ids:
        expected = [values[label] for values in (iou, precision, recall, f1)] if label in present else [None] * 4
        assert astuple(found.classes[label])[:4] == pytest.approx(expected)
    columns = np.stack([iou, precision, recall, f1])
    assert found.mean_present
    assert astuple(found.mean_all) == pytest.approx(columns.mean(axis=1))
    assert astuple(found.mean_present) == pytest.approx(columns[:, present].mean(axis=1))
    assert found.pixels == counted.sum()
    assert found.pixel_accuracy == pytest.approx(accuracy_score(truth, guess))
    weighted = jaccard_score(truth, guess, labels=ids, average="weighted", zero_division=0.0)
    assert found.frequency_weighted_iou == pytest.approx(weighted)


@pytest.mark.needs("torch")
def test_the_iou_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    labels, predicted = _random_masks(1)
    _, found = _measured((labels, predicted))
    index = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=IGNORED)
    expected = index(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(labels.astype(np.int64))).tolist()
    assert [one.iou or 0.0 for one in found.classes] == pytest.approx(expected)


def test_a_case_worked_by_hand() -> None:
    row = np.array([[0, 0, 0, 1, 1, 2]], np.uint8), np.array([[0, 0, 1, 1, 1, 1]], np.uint8)
    _, found = _measured(row, num_classes=4)
    assert [astuple(one) for one in found.classes] == [
        (2 / 3, 1.0, 2 / 3, 0.8, 3, 2),
        (0.5, 0.5, 1.0, 2 / 3, 2, 4),
        (0.0, 0.0, 0.0, 0.0, 1, 0),
        (None, None, None, None, 0, 0),
    ]
    assert found.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 2 * 0.5) / 6)


def test_the_mean_over_all_classes_is_the_miou_of_training() -> None:
    matrix, found = _measured(_random_masks(7))
    assert found.mean_all.iou == matrix.mean_iou()
    assert found.mean_present
    assert found.mean_present.iou == pytest.approx(matrix.mean_iou_present())
    assert [one.iou for one in found.classes] == matrix.iou()


def test_without_a_counted_pixel_shares_are_zero_and_classes_have_no_measures() -> None:
    _, found = _measured((np.full((2, 2), IGNORED, np.uint8), np.zeros((2, 2), np.uint8)), num_classes=2)
    assert (found.pixels, found.pixel_accuracy, found.frequency_weighted_iou) == (0, 0.0, 0.0)
    assert (found.mean_all, found.mean_present) == (Means(0.0, 0.0, 0.0, 0.0), None)
    assert [one.iou for one in found.classes] == [None, None]


def test_json_names_the_classes_and_has_null_for_absent_ones() -> None:
    _, found = _measured((np.array([[0, 0]], np.uint8), np.array([[0, 1]], np.uint8)), num_classes=2)
    read = json.loads(json.dumps(found.as_json(["sky", "road"]), allow_nan=False))
    assert read == {
        "classes": [
            {"class": 0, "name": "sky", "iou": 0.5, "precision": 1, "recall": 0.5, "f1": 2 / 3, "support": 2}
            | {"predicted": 1},
            {"class": 1, "name": "road", "iou": None, "precision": None, "recall": None, "f1": None, "support": 0}
            | {"predicted": 1},
        ],
        "pixels": 2,
        "pixel_accuracy": 0.5,
        "mean_all": {"iou": 0.25, "precision": 0.5, "recall": 0.25, "f1": pytest.approx(1 / 3)},
        "mean_present": {"iou": 0.5, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        "frequency_weighted_iou": 0.5,
    }
    assert [one["name"] for one in json.loads(json.dumps(found.as_json()))["classes"]] == [None, None]
