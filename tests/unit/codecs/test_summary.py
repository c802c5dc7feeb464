from __future__ import annotations

import json

import numpy as np
import pytest

from semseg.codecs import summary
from semseg.codecs.summary import encode_summary

NAMES = ["background", "scratch", 'öl "x"', None]
LABELS = np.array([[0, 0, 1], [0, 2, 1]], np.uint8)
CONFIDENCE = np.array([[1, 0.5, 0.25], [0.75, 0.1, 0.75]], np.float32)


def test_each_class_has_its_name_pixels_share_and_mean_confidence() -> None:
    assert json.loads(b"".join(encode_summary(LABELS, CONFIDENCE, NAMES, with_regions=False))) == {
        "width": 3,
        "height": 2,
        "mean_confidence": 0.558333,
        "classes": [
            {"id": 0, "name": "background", "pixels": 3, "share": 0.5, "mean_confidence": 0.75},
            {"id": 1, "name": "scratch", "pixels": 2, "share": 0.333333, "mean_confidence": 0.5},
            {"id": 2, "name": 'öl "x"', "pixels": 1, "share": 0.166667, "mean_confidence": 0.1},
            {"id": 3, "name": None, "pixels": 0, "share": 0.0, "mean_confidence": None},
        ],
    }


def test_with_runs_each_class_has_its_region() -> None:
    summarised = json.loads(b"".join(encode_summary(LABELS, CONFIDENCE, NAMES, with_regions=True)))
    assert [entry["rle"]["size"] for entry in summarised["classes"]] == [[2, 3]] * 4
    assert [entry["rle"]["counts"] for entry in summarised["classes"]] == [[0, 3, 3], [4, 2], [3, 1, 2], [6]]


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_sums_and_texts_do_not_depend_on_how_many_are_made_at_a_time(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    rng = np.random.default_rng(0)
    labels, confidence = rng.integers(0, 5, (100, 30), np.uint8), rng.random((100, 30), np.float32)
    expected = b"".join(encode_summary(labels, confidence, [None] * 5, with_regions=True))
    monkeypatch.setattr(summary, "_ROWS_AT_ONCE", rows)
    monkeypatch.setattr(summary, "_RUNS_AT_ONCE", rows)
    assert b"".join(encode_summary(labels, confidence, [None] * 5, with_regions=True)) == expected
    counts = [entry["pixels"] for entry in json.loads(expected)["classes"]]
    assert counts == np.bincount(labels.ravel()).tolist()


@pytest.mark.parametrize("confidence", [np.nan, np.inf])
def test_json_holds_no_confidence_that_is_no_number(confidence: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_summary(np.zeros((2, 2), np.uint8), np.full((2, 2), confidence, np.float32), [None] * 3, False)
