from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from semseg.codecs.recordio import frame
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import LabelMap, parse_label_map
from semseg.data.pairs import Listing
from semseg.data.shapes import write_shapes
from semseg.errors import DataError
from semseg.sagemaker.channels import Split
from semseg.sagemaker.hyperparameters import parse
from semseg.training.inputs import Input, class_names, training_data

PLAIN = '{"scale": 1}'
NAMES = {0: "void", 1: "road", 2: "tree"}


def one(names: dict[int, str] | None, label_map: str = PLAIN, piped: bool = False, num_classes: int = 3) -> Input:
    """A split whose masks have so named values; the colour of value 1 is #000001."""
    split = Split("train", Path("train"), None, None, piped)
    colors = ColorMap(tuple((value, name, value) for value, name in names.items())) if names else None
    return Input(split, None if piped else Listing("train", (), (), colors), label_map_of(label_map, num_classes))


def label_map_of(text: str, num_classes: int) -> LabelMap:
    return parse_label_map(text, num_classes, "map.json")


def test_names_follow_the_label_map_from_values_to_classes() -> None:
    turned = one(NAMES, '{"map": {"0": 1, "1": 2, "2": 9, "255": 0}}')
    assert class_names((turned, one(None))) == ("road", "tree", "class 2")


def test_names_follow_a_label_map_of_colours() -> None:
    turned = one(NAMES, '{"colors": {"0": "#000002", "1": "#000001", "255": "#000000"}}', num_classes=2)
    assert class_names((turned, one(None))) == ("tree", "road")


def test_of_several_values_the_first_that_is_told_names_the_class() -> None:
    scaled = one({0: "a", 1: "a, too", 3: "b, too"}, '{"scale": 2}', num_classes=2)
    assert class_names((scaled, one(None))) == ("a", "b, too")


def test_either_split_may_tell_the_names() -> None:
    told = tuple(NAMES.values())
    assert class_names((one(NAMES), one(None))) == class_names((one(None, piped=True), one(NAMES))) == told
    assert class_names((one({0: "void"}), one({1: "road", 2: "tree"}))) == told
    assert class_names((one(None), one(None))) is None


def test_splits_that_disagree_are_an_error() -> None:
    with pytest.raises(DataError, match="Class 1 is called 'road' in train, but 'path' in validation"):
        class_names((one(NAMES), one(NAMES | {1: "path"})))


def test_masks_from_pipes_are_checked_as_they_come(tmp_path: Path) -> None:
    """Nothing else does: a label that is no class must not turn into an ignored one."""
    write_shapes(tmp_path, train=2, validation=1, size=(40, 40), seed=0)
    records = []
    for image in sorted((tmp_path / "train").iterdir()):
        mask = (tmp_path / "train_annotation" / image.name).with_suffix(".png")
        Image.new("L", (40, 40), 9).save(mask)
        records += [*frame([image.read_bytes()]), *frame([mask.read_bytes()])]
    (tmp_path / "train_0").write_bytes(b"".join(records))
    piped = Input(Split("train", tmp_path / "train", None, None, True), None, label_map_of(PLAIN, 4))
    settings, _ = parse({"num_classes": "4", "crop_size": "24", "mini_batch_size": "2"})
    with pytest.raises(DataError, match=r"record [13] of train_0: pixel values 9 are no class"):
        list(training_data(piped, settings, 2, lambda: False).epoch(0))
