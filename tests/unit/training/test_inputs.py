from __future__ import annotations

from pathlib import Path

import pytest

from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.errors import DataError
from semseg.sagemaker.channels import Split
from semseg.training.inputs import Input, class_names

PLAIN = '{"scale": 1}'
NAMES = ("void", "road", "tree")


def one(names: tuple[str, ...] | None, label_map: str = PLAIN, piped: bool = False, num_classes: int = 3) -> Input:
    split = Split("train", Path("train"), None, None, piped)
    listing = None if piped else Listing("train", (), (), names)
    return Input(split, listing, parse_label_map(label_map, num_classes, "map.json"))


def test_names_follow_the_label_map_from_values_to_classes() -> None:
    turned = one(NAMES, '{"map": {"0": 1, "1": 2, "2": 9, "255": 0}}')
    assert class_names((turned, one(None))) == ("road", "tree", "class 2")


def test_of_several_values_the_lowest_names_the_class() -> None:
    scaled = one(("a", "a, too", "b", "b, too"), '{"scale": 2}', num_classes=2)
    assert scaled.class_names() == ("a", "b")


def test_either_split_may_tell_the_names() -> None:
    assert class_names((one(NAMES), one(None))) == class_names((one(None, piped=True), one(NAMES))) == NAMES
    assert class_names((one(None), one(None))) is None


def test_splits_that_disagree_are_an_error() -> None:
    with pytest.raises(DataError, match="Class 1 is called 'road' in train, but 'path' in validation"):
        class_names((one(NAMES), one(("void", "path", "tree"))))
