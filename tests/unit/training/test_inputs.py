from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from semseg.codecs.recordio import frame
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import LabelMap, parse_label_map
from semseg.data.pairs import Listing, list_pairs
from semseg.data.shapes import write_shapes
from semseg.data.shares import Share
from semseg.errors import DataError, HyperparameterError
from semseg.sagemaker.channels import Channels, Split
from semseg.sagemaker.hyperparameters import parse
from semseg.training.inputs import Input, Part, check_inputs, fingerprint, joined_classes, require_files, training_data
from semseg.training.ranks import Ranks

PLAIN = '{"scale": 1}'
NAMES = {0: "void", 1: "road", 2: "tree"}


def one(
    names: dict[int, str] | None,
    label_map: str = PLAIN,
    piped: bool = False,
    num_classes: int = 3,
    channel: str = "train",
) -> Input:
    """A split whose mask values have these names; the colour of value 1 is #000001."""
    split = Split(channel, Path(channel), None, None, piped)
    colors = ColorMap(tuple((value, name, value) for value, name in names.items())) if names else None
    return Input(split, None if piped else Listing(channel, (), (), colors), label_map_of(label_map, num_classes))


def label_map_of(text: str, num_classes: int) -> LabelMap:
    return parse_label_map(text, num_classes, "map.json")


def test_names_follow_the_label_map_from_values_to_classes() -> None:
    turned = one(NAMES, '{"map": {"0": 1, "1": 2, "2": 9, "255": 0}}')
    assert joined_classes((turned, one(None))).titles == ("road", "tree", "class 2")


def test_names_follow_a_label_map_of_colours() -> None:
    turned = one(NAMES, '{"colors": {"0": "#000002", "1": "#000001", "255": "#000000"}}', num_classes=2)
    assert joined_classes((turned, one(None, num_classes=2))).titles == ("tree", "road")


def test_of_several_values_the_first_with_a_name_names_the_class() -> None:
    scaled = one({0: "a", 1: "a, too", 3: "b, too"}, '{"scale": 2}', num_classes=2)
    assert joined_classes((scaled, one(None, num_classes=2))).titles == ("a", "b, too")


def test_either_split_may_tell_the_names() -> None:
    told = tuple(NAMES.values())
    assert (
        joined_classes((one(NAMES), one(None))).titles
        == joined_classes((one(None, piped=True), one(NAMES))).titles
        == told
    )
    assert joined_classes((one({0: "void"}), one({1: "road", 2: "tree"}))).titles == told
    assert not joined_classes((one(None), one(None))).named


def test_splits_that_disagree_are_an_error() -> None:
    other = NAMES | {1: "path"}
    with pytest.raises(DataError, match="Class 1 is called 'road' in train, but 'path' in validation"):
        joined_classes((one(NAMES), one(other, channel="validation")))
    with pytest.raises(DataError, match="Class 1 is called 'road' in validation, but 'path' in test"):
        joined_classes((one(None), one(NAMES, channel="validation"), one(other, channel="test")))


@pytest.mark.parametrize(
    ("given", "piped", "told"),
    [
        ({"_quantize": "True"}, "train", "_quantize=True needs .* File mode"),
        ({"_quantize": "True"}, "validation", "_quantize=True needs .* File mode"),
        ({"_quantize": "True"}, "", None),
        ({"_class_weights": "auto"}, "train", "_class_weights=auto needs the channel train in File mode"),
        ({"_class_weights": "auto"}, "validation", None),
        ({"_class_weights": "1,2,3,4"}, "train", None),
        ({}, "train", None),
    ],
)
def test_what_comes_through_a_pipe_is_neither_counted_nor_read_again(
    given: dict[str, str], piped: str, told: str | None
) -> None:
    settings, _ = parse({"num_classes": "4", **given})
    train, validation = (Split(name, Path(name), None, None, name == piped) for name in ("train", "validation"))
    with pytest.raises(HyperparameterError, match=told) if told else nullcontext():
        require_files(Channels(train, validation, None, None, None), settings)


def test_masks_from_pipes_are_checked_as_they_come(tmp_path: Path) -> None:
    """Nothing else does: a label that is not a class must not become an ignored one."""
    write_shapes(tmp_path, train=2, validation=1, size=(40, 40), seed=0)
    records = []
    for image in sorted((tmp_path / "train").iterdir()):
        mask = (tmp_path / "train_annotation" / image.name).with_suffix(".png")
        Image.new("L", (40, 40), 9).save(mask)
        records += [*frame([image.read_bytes()]), *frame([mask.read_bytes()])]
    (tmp_path / "train_0").write_bytes(b"".join(records))
    piped = Input(Split("train", tmp_path / "train", None, None, True), None, label_map_of(PLAIN, 4))
    settings, _ = parse({"num_classes": "4", "crop_size": "24", "mini_batch_size": "2"})
    with pytest.raises(DataError, match=r"record [13] of train_0: pixel values 9 are not classes"):
        list(training_data(piped, settings, 2, lambda: False).epoch(0))


def test_other_pairs_or_another_label_map_of_either_split_tell_data_from_others(tmp_path: Path) -> None:
    def split(channel: str, stems: str, label_map: str) -> Input:
        for stem in stems:
            for folder, suffix in ((channel, "jpg"), (f"{channel}_annotation", "png")):
                path = tmp_path / stems / folder / f"{stem}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        images, masks = tmp_path / stems / channel, tmp_path / stems / f"{channel}_annotation"
        listing = list_pairs(channel, images, masks)
        return Input(Split(channel, images, masks, None, False), listing, label_map_of(label_map, 3))

    turned = '{"map": {"0": 1, "1": 0}}'
    found = [
        fingerprint((split("train", *train), split("validation", *validation)))
        for train in (("ab", PLAIN), ("abc", PLAIN), ("xy", PLAIN), ("ab", turned))
        for validation in (("ab", PLAIN), ("xy", PLAIN), ("ab", turned))
    ]
    assert len({tuple(sorted(one.items())) for one in found}) == 12
    assert found[0] == fingerprint((split("train", "ab", PLAIN), split("validation", "ab", ' {"scale":1}')))
    assert found[0]["the number of train's pairs"] == "2"


@pytest.mark.parametrize(("size", "told"), [("2", []), ("3", ["The train channel has 2 pairs, fewer than "])])
def test_a_batch_that_cannot_be_filled_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: str, told: list[str]
) -> None:
    write_shapes(tmp_path, train=2, validation=1, size=(40, 40), seed=0)
    settings, _ = parse({"num_classes": "4", "mini_batch_size": size})
    split = Split("train", tmp_path / "train", tmp_path / "train_annotation", None, False)
    listing = list_pairs("train", split.images, tmp_path / "train_annotation")
    training_data(Input(split, listing, label_map_of(PLAIN, 4)), settings, 2, lambda: False)
    assert [message.split("mini_batch")[0] for message in caplog.messages] == told


@pytest.mark.parametrize("piped", [(True, True), (True, False), (False, False)])
def test_label_maps_that_contradict_each_other_are_suspicious_even_where_nothing_is_read(
    piped: tuple[bool, bool],
) -> None:
    maps = ('{"colors": {"0": "#000000", "1": "#ff0000"}}', '{"colors": {"1": "#000000", "0": "#ff0000"}}')
    train, validation = (
        one(None, label_map, of_pipe, channel=channel)
        for label_map, of_pipe, channel in zip(maps, piped, ("train", "validation"), strict=True)
    )
    (line,) = check_inputs((train, validation), workers=0).suspicions
    assert line.startswith("train and validation: their label maps give one colour different classes")
    assert not check_inputs((train, train), workers=0).suspicions


def test_the_parts_of_ranks_are_of_all_pairs_or_of_their_hosts() -> None:
    """Two hosts of two ranks, batches of five: three images for the first host."""
    parts = [Part(Ranks(2, 2, host), local, 100) for host in range(2) for local in range(2)]
    assert [part.of_host(5) for part in parts] == [3, 3, 2, 2]
    assert [part.share(False) for part in parts] == [Share(rank, 4) for rank in range(4)]
    assert [part.share(True) for part in parts] == [Share(0, 2), Share(1, 2)] * 2
    assert [len(part.share(True).of(part.of_host(5))) for part in parts] == [2, 1, 1, 1]
