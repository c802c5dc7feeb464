from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.files import LocalFile
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair
from semseg.data.report import Report
from semseg.errors import DataError
from semseg.reporting.data_report import as_json, as_text, write_report
from semseg.types import UInt8

NAMES = ("sky", "road", "a\x1b[31mcar", "a name too long for the column", "")


class DataSet:
    """Files in a directory, and the report of their check."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pairs: dict[str, list[Pair]] = {"train": [], "validation": []}

    def add(self, mask: UInt8, split: str = "train", kind: str = "PNG") -> None:
        pairs = self._pairs[split]
        files = [self._root / f"{split}{suffix}{len(pairs)}.png" for suffix in ("", "_mask")]
        Image.new("RGB", (mask.shape[1], mask.shape[0])).save(files[0], kind)
        Image.fromarray(mask).save(files[1])
        pairs.append(Pair(LocalFile(files[0]), LocalFile(files[1])))

    def report(self, problems: tuple[DataError, ...] = (), source: dict[str, Any] | None = None) -> Report:
        label_map = parse_label_map(source or {"scale": 1}, len(NAMES), "map.json")
        listings = [
            Listing(
                name,
                tuple(pairs),
                problems if name == "train" else (),
                ColorMap(tuple((value, name, value) for value, name in enumerate(NAMES))),
            )
            for name, pairs in self._pairs.items()
        ]
        return check([(listing, label_map) for listing in listings], workers=0)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Three sizes, two kinds, all classes but 3, ignored pixels."""
    data = DataSet(tmp_path)
    data.add(np.repeat(np.array([0, 1, 2, 255], np.uint8), 20).reshape(8, 10))
    data.add(np.repeat(np.array([0, 1, 1, 4], np.uint8), 20).reshape(8, 10), kind="JPEG")
    data.add(np.zeros((6, 5), np.uint8))
    data.add(np.repeat(np.array([0, 2], np.uint8), 6).reshape(3, 4), split="validation")
    return data


def test_the_text(data: DataSet) -> None:
    found = data.report()
    assert as_text(found).splitlines() == [
        "                           train                    validation",
        "pairs                      3                        1",
        "smallest image             5 x 6                    4 x 3",
        "largest image              10 x 8                   4 x 3",
        "images by size             10 x 8: 2, 5 x 6: 1      4 x 3: 1",
        "images by kind             PNG RGB: 2, JPEG RGB: 1  PNG RGB: 1",
        "masks by kind              PNG L: 3                 PNG L: 1",
        "pixels ignored             10.52 %                  -",
        "pixels of unlisted values  -                        -",
        "pixels of no class         -                        -",
        "",
        "class                        train %  images  validation %  images  weight",
        "  0 sky                        41.18       3         50.00       1   0.905",
        "  1 road                       35.29       2             -       0   0.869",
        "  2 'a\\x1b[31mcar'             11.76       1         50.00       1   1.118",
        "  3 a name too long for the        -       0             -       0       -",
        "  4                            11.76       1             -       0   1.490",
        "",
        "Suspicious:",
        *found.suspicions,
        "",
        "No errors.",
    ]
    assert len(found.suspicions) == 1


def test_the_text_ends_with_the_problems_and_their_number(data: DataSet) -> None:
    problems = tuple(DataError(f"{chr(97 + number)} is lost.", f"Look for {number}.") for number in range(23))
    report = data.report(problems)
    lines = as_text(report).splitlines()
    start = lines.index("23 problems in the data:")
    listed = [(f"{chr(97 + number)} is lost.", f"  Look for {number}.") for number in range(20)]
    assert lines[start + 1 : start + 42] == [*(line for lines in listed for line in lines), "... and 3 other problems."]
    assert lines[-1] == "23 errors."
    assert as_text(data.report(problems[:1])).splitlines()[-1] == "1 error."


def test_the_text_shows_four_sizes(data: DataSet) -> None:
    for width in range(20, 27):
        data.add(np.zeros((3, width), np.uint8))
    lines = as_text(data.report()).splitlines()
    assert "10 x 8: 2, 5 x 6: 1, 20 x 3: 1, 21 x 3: 1, 5 more: 5" in lines[4]
    assert "26 x 3" not in "".join(lines)


def test_empty_channels_have_a_report(tmp_path: Path) -> None:
    report = DataSet(tmp_path).report((DataError("Channel train has no file."),))
    assert "smallest image             -      -" in as_text(report)
    found = as_json(report)["splits"]["train"]
    assert (found["pairs"], found["sizes"]["smallest"], found["classes"][0]["share"]) == (0, None, None)
    json.dumps(found, allow_nan=False)


def test_of_pipes_alone_there_is_nothing_to_say() -> None:
    assert as_json(Report((), (), ())) == {"errors": 0, "problems": [], "suspicions": [], "splits": {}}


def test_the_json(data: DataSet) -> None:
    found = data.report()
    obj = as_json(found)
    assert json.loads(json.dumps(obj, allow_nan=False)) == obj
    assert {key: obj[key] for key in ("errors", "problems", "suspicions")} == {
        "errors": 0,
        "problems": [],
        "suspicions": list(found.suspicions),
    }
    train = obj["splits"]["train"]
    classes = train.pop("classes")
    assert train == {
        "pairs": 3,
        "label_map": {"scale": 1},
        "sizes": {
            "count": 2,
            "smallest": [5, 6],
            "largest": [10, 8],
            "most_frequent": [{"size": [10, 8], "pictures": 2}, {"size": [5, 6], "pictures": 1}],
        },
        "pictures": {"PNG RGB": 2, "JPEG RGB": 1},
        "masks": {"PNG L": 3},
        "values": {"0": 70, "1": 60, "2": 20, "4": 20, "255": 20},
        "ignored_pixels": 20,
        "unlisted_pixels": 0,
        "invalid_pixels": 0,
        "colored_masks": 0,
        "colors": {},
        "suggested_label_map": None,
    }
    assert [one["name"] for one in classes] == [*NAMES]
    assert [one["color"] for one in classes] == [f"#00000{value}" for value in range(len(NAMES))]
    road = classes[1]
    assert (road["id"], road["pixels"], road["pictures"]) == (1, 60, 2)
    assert road["share"] == pytest.approx(60 / 170)
    assert road["suggested_weight"] == pytest.approx((20 / 60 + 70 / 170) / 2 / (60 / 140))
    assert (classes[3]["pixels"], classes[3]["share"], classes[3]["suggested_weight"]) == (0, 0, 0)


def test_the_json_has_1000_problems_and_their_number(data: DataSet) -> None:
    obj = as_json(data.report(tuple(DataError(str(number), "hint") for number in range(1002))))
    assert obj["errors"] == 1002
    assert len(obj["problems"]) == 1000
    assert obj["problems"][999] == {"message": "999", "hint": "hint"}


def test_the_json_has_all_colours_and_the_label_map(tmp_path: Path) -> None:
    data = DataSet(tmp_path)
    pixels = np.zeros((8, 10, 3), np.uint8)
    pixels[0, :9, 2] = range(1, 10)
    pixels[1:3] = (9, 0, 0)
    data.add(pixels)
    splits = as_json(data.report())["splits"]
    train = splits["train"]
    assert train["colored_masks"] == 1
    assert list(train["colors"].items())[:3] == [("#000000", 51), ("#090000", 20), ("#000001", 1)]
    assert len(train["colors"]) == 11
    names = ["#000000", *(f"#{number:06x}" for number in range(1, 10)), "#090000"]
    suggested = {"colors": {str(class_id): name for class_id, name in enumerate(names)}}
    assert [split["suggested_label_map"] for split in splits.values()] == [suggested, suggested]
    report = data.report(source={"colors": {"0": names[:7], "1": names[7:]}})
    assert not report.problems
    assert as_json(report)["splits"]["train"]["suggested_label_map"] is None


def test_the_file_holds_the_json(data: DataSet, tmp_path: Path) -> None:
    report = data.report()
    for _ in range(2):
        write_report(report, tmp_path / "output/data")
    (file,) = (tmp_path / "output/data").iterdir()
    assert file.name == "data_report.json"
    assert json.loads(file.read_text()) == as_json(report)


def test_the_scale_of_the_images_is_a_line_of_the_report(data: DataSet) -> None:
    plain = data.report()
    found = dataclasses.replace(plain, image_scale="Training resizes images.")
    assert "\n\nTraining resizes images.\n\n" in as_text(found)
    assert as_text(found).replace("Training resizes images.\n\n", "") == as_text(plain)
    assert as_json(found) == as_json(plain) | {"image_scale": "Training resizes images."}
