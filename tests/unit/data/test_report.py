from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from semseg.data.check import check
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair
from semseg.data.report import Report, SplitReport, class_weights
from semseg.errors import DataError

PairWriter = Callable[..., Pair]


def split_of(pairs: Sequence[Pair], num_classes: int) -> SplitReport:
    report = check([(Listing("train", tuple(pairs), ()), parse_label_map({"scale": 1}, num_classes, "m"))], workers=0)
    return report.splits[0]


def test_class_weights_are_median_frequency_balancing(write_pair: PairWriter) -> None:
    masks = np.zeros((2, 80), np.uint8)
    masks[:, :20] = 1
    masks[1, 20:70] = np.repeat([2, 255], [10, 40])
    pairs = [write_pair(str(number), mask.reshape(8, 10)) for number, mask in enumerate(masks)]
    weights = class_weights(split_of(pairs, num_classes=4))
    frequencies = np.array([70 / 120, 40 / 120, 10 / 40])
    np.testing.assert_allclose(weights, [*(40 / 120 / frequencies), 0])
    assert weights.dtype == np.float64


def test_class_weights_are_0_of_nothing() -> None:
    assert class_weights(split_of([], num_classes=3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("message", "files", "shown"),
    [
        ("train/{}.jpg: It is bad.", ["a", "b"], "train/b.jpg"),
        ("my photos/{}.JPG has no annotation in masks.", ["on the road", "at home.2"], "my photos/at home.2.JPG"),
        ("'train/{}.tif' is a link to /a, which does not exist.", [r"a\n b", r"c\td"], r"'train/c\td.tif'"),
        ("line {} of a.manifest: source-ref is 3.", ["3", "14"], "line 14"),
        ("line {} of a.manifest: source-ref my photo.png: It is bad.", ["3", "14"], "line 14"),
    ],
)
def test_problems_that_differ_in_their_files_are_of_one_kind(message: str, files: Sequence[str], shown: str) -> None:
    problems = tuple(DataError(message.format(file), "Mend it.") for file in files)
    error = Report((), problems, ()).error()
    assert error
    assert error.message.splitlines()[1:] == [problems[0].message, f"  1 more like this: {shown}"]


def test_problems_of_several_kinds_stay_apart() -> None:
    messages = ["Channel train has no .jpg file.", "Channel validation has no .jpg file.", "a.png: It is bad."]
    error = Report((), tuple(map(DataError, messages)), ()).error()
    assert error
    assert error.message.splitlines()[1:] == messages
