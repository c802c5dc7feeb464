from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check_pairs
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.errors import DataError
from semseg.types import UInt8

PairWriter = Callable[..., Pair]


def check(
    root: Path, num_classes: int = 3, source: dict[str, Any] | None = None, **options: Any
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]] | None:
    label_map = parse_label_map(source or {"scale": 1}, num_classes, "map.json")
    names = [name for name in ("train", "validation") if (root / name).exists()]
    splits = [(list_pairs(name, root / name, root / f"{name}_annotation"), label_map) for name in names]
    return check_pairs(splits, workers=2, **options)


def mask(*values: int) -> UInt8:
    pixels = np.zeros(80, np.uint8)
    pixels[: len(values)] = values
    return pixels.reshape(8, 10)


@pytest.mark.req("R15", "R20")
def test_sound_channels_give_the_pixels_of_each_class(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(1, 1, 2, 255))
    write_pair("b", mask(1))
    write_pair("c", mask(2), split="validation")
    counts = check(tmp_path)
    assert counts is not None
    assert {name: list(count) for name, count in counts.items()} == {"train": [155, 3, 1], "validation": [79, 0, 1]}


def test_every_kind_of_problem_is_in_one_error(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("fine")
    write_pair("lone").mask.unlink()
    write_pair("small", np.zeros((8, 9), np.uint8))
    cut = write_pair("cut", size=(30, 30)).image
    cut.write_bytes(cut.read_bytes()[:-500])
    write_pair("coloured", np.random.default_rng(0).integers(0, 9, (8, 10, 3)).astype(np.uint8))
    write_pair("wrong", mask(3, 7))
    write_pair("text", split="validation").mask.write_text("no picture")
    with pytest.raises(DataError) as raised:
        check(tmp_path)
    lines = raised.value.message.splitlines()
    assert lines[0] == "6 problems in the data:"
    for line, expected in zip(
        lines[1:],
        [
            "train/lone.png has no annotation in train_annotation.",
            "train_annotation/coloured.png: The mask has mode RGB and colours",
            "train/cut.png: The picture cannot be decoded",
            "train_annotation/small.png has 9 x 8 pixels, train/small.png 10 x 8.",
            "train_annotation/wrong.png: pixel values 3, 7 are no class under {'scale': 1}: num_classes is 3.",
            "validation_annotation/text.png: The picture begins like neither JPEG nor PNG.",
        ],
        strict=True,
    ):
        assert line.startswith(expected)
    assert raised.value.exit_code == 1


def test_both_files_of_a_pair_may_be_bad(tmp_path: Path, write_pair: PairWriter) -> None:
    pair = write_pair("a")
    pair.image.write_bytes(b"")
    pair.mask.write_bytes(b"")
    with pytest.raises(DataError, match=r"^2 problems"):
        check(tmp_path)


def test_of_many_problems_the_first_20_and_the_number(tmp_path: Path, write_pair: PairWriter) -> None:
    for number in range(50):
        write_pair(f"{number:02}").mask.unlink()
    write_pair("sound")
    with pytest.raises(DataError) as raised:
        check(tmp_path)
    lines = raised.value.message.splitlines()
    assert lines[0] == "50 problems in the data:"
    assert lines[20] == "train/19.png has no annotation in train_annotation."
    assert lines[21:] == ["... and 30 more."]
    assert raised.value.hint == "Image and annotation carry the same name, but for the suffix."


def test_a_truncated_jpeg_is_found(tmp_path: Path, write_pair: PairWriter) -> None:
    pair = write_pair("a", size=(64, 64))
    jpeg = pair.image.with_suffix(".jpg")
    Image.open(pair.image).save(jpeg)
    pair.image.unlink()
    jpeg.write_bytes(jpeg.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train/a\.jpg: The picture cannot be decoded"):
        check(tmp_path)


def test_a_turned_picture_is_explained(tmp_path: Path, write_pair: PairWriter) -> None:
    pair = write_pair("a", np.zeros((10, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(pair.image).save(pair.image, exif=exif)
    with pytest.raises(DataError, match="EXIF orientation"):
        check(tmp_path)


def test_swapped_sides_without_exif_are_plain_mismatch(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", np.zeros((10, 8), np.uint8))
    with pytest.raises(DataError) as raised:
        check(tmp_path)
    assert "EXIF" not in str(raised.value)


def test_values_no_map_lists_are_counted_in_a_warning(
    tmp_path: Path, write_pair: PairWriter, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair("a", mask(1, 7, 9, 255))
    write_pair("b", mask(9))
    check(tmp_path, source={"map": {"0": 0, "1": 1}})
    assert caplog.messages == ["train: 3 pixels have values no label map lists (7, 9): they are ignored"]


def test_binary_masks_under_the_default_map_get_a_warning_that_helps(
    tmp_path: Path, write_pair: PairWriter, caplog: pytest.LogCaptureFixture
) -> None:
    write_pair("a", mask(255, 255))
    check(tmp_path, num_classes=2)
    assert caplog.messages == [
        'train: 0 is the only class in the annotations; for masks of 0 and 255 give the label map {"scale": 255}'
    ]
    caplog.clear()
    counts = check(tmp_path, num_classes=2, source={"scale": 255})
    assert counts is not None
    assert list(counts["train"]) == [78, 2]
    assert not caplog.messages


def test_annotations_that_are_ignored_altogether_are_an_error(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", np.full((8, 10), 255, np.uint8))
    with pytest.raises(DataError, match="Every pixel of the annotations of train is ignored"):
        check(tmp_path)


@pytest.mark.req("R20")
def test_an_empty_channel_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="Channel train has no"):
        check(tmp_path)


def test_a_file_that_cannot_be_opened(tmp_path: Path, write_pair: PairWriter) -> None:
    pair = write_pair("a")
    found = Listing("train", (pair,), ())
    pair.image.unlink()
    with pytest.raises(DataError, match=r"train/a\.png cannot be read: No such file"):
        check_pairs([(found, parse_label_map({"scale": 1}, 3, "map.json"))], workers=0)


def test_it_stops_when_told(tmp_path: Path, write_pair: PairWriter) -> None:
    for number in range(9):
        write_pair(str(number))
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    assert check(tmp_path, stop=stop) is None
    assert asked == [False, False, True]


def test_nothing_but_the_log_is_written_without_a_terminal(
    tmp_path: Path, write_pair: PairWriter, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pair("a")
    check(tmp_path)
    assert capfd.readouterr() == ("", "")
