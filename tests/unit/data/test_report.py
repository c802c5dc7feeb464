from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from semseg.data.check import check
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair
from semseg.data.report import SplitReport, class_weights

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
