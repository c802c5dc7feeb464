from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

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


def test_images_of_many_rows_and_classes_of_many_runs_are_summed_whole() -> None:
    """They are summed and written in blocks, smaller than here."""
    rng = np.random.default_rng(0)
    labels, confidence = rng.integers(0, 3, (100, 300), np.uint8), rng.random((100, 300), np.float32)
    summarised = json.loads(b"".join(encode_summary(labels, confidence, [None] * 3, with_regions=True)))
    for number, entry in enumerate(summarised["classes"]):
        inside = labels == number
        assert entry["pixels"] == inside.sum()
        assert entry["mean_confidence"] == pytest.approx(confidence[inside].mean(dtype=float), abs=1e-6)
        runs = [len(list(group)) for _, group in itertools.groupby([False, *inside.ravel(order="F").tolist()])]
        assert entry["rle"]["counts"] == [runs[0] - 1, *runs[1:]]
        assert len(runs) > 10_000


@pytest.mark.parametrize("confidence", [np.nan, np.inf])
def test_json_holds_no_confidence_that_is_no_number(confidence: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_summary(
            np.zeros((2, 2), np.uint8), np.full((2, 2), confidence, np.float32), [None] * 3, with_regions=False
        )
