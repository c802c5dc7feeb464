from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_masks import colored, mask

from semseg.data.check import check
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.data.report import Report

PairWriter = Callable[..., Pair]


def report_of(root: Path, num_classes: int = 3, source: dict[str, Any] | None = None) -> Report:
    label_map = parse_label_map(source or {"scale": 1}, num_classes, "map.json")
    names = [name for name in ("train", "validation", "test") if (root / name).exists()]
    splits = [(list_pairs(name, root / name, root / f"{name}_annotation"), label_map) for name in names]
    return check(splits, workers=0)


HALF = mask(*[1] * 20, *[2] * 20)
"""All of three classes, none of them rare."""


def test_none_without_a_reason(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", HALF)
    write_pair("b", mask(*[1] * 40), split="validation")
    assert not report_of(tmp_path).suspicions


def test_values_no_map_lists(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(*[1] * 20, 7, 9, 255))
    write_pair("b", mask(9))
    assert report_of(tmp_path, 2, {"map": {"0": 0, "1": 1}}).suspicions == (
        "train: 3 pixels have values that no label map lists (7, 9): they are ignored",
    )


def test_colours_no_map_lists(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", colored(*[(255, 0, 0)] * 20, (1, 2, 3)))
    write_pair("b", colored(*[(1, 2, 3)] * 2, (0, 0, 9)))
    report = report_of(tmp_path, 2, {"colors": {"0": "#000000", "1": "#ff0000"}})
    assert report.suspicions == (
        "train: 4 pixels have colours that no label map lists (#010203 75 %, #000009 25 %): they are ignored",
    )
    assert not report.problems


def test_binary_masks_under_the_default_map(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(255, 255))
    assert report_of(tmp_path, num_classes=2).suspicions[0] == (
        'train: 0 is the only class in the annotations; for masks of 0 and 255 give the label map {"scale": 255}'
    )
    report = report_of(tmp_path, num_classes=2, source={"scale": 255})
    assert report.splits[0].class_pixels.tolist() == [78, 2]
    assert not report.suspicions


def test_a_lone_class(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", HALF)
    write_pair("b", mask(), split="validation")
    assert report_of(tmp_path).suspicions == ("validation: 0 is the only class in the annotations",)


def test_a_class_of_more_than_99_percent(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(1, 2))
    assert not report_of(tmp_path).suspicions
    write_pair("b", mask())
    write_pair("c", mask())
    (line,) = report_of(tmp_path).suspicions
    assert line.startswith("train: class 0 has 99.16 % of the pixels")


def test_most_pixels_ignored(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", mask(0, 1, 2, 0, 1, 2, 0, 1, *[255] * 72))
    assert not report_of(tmp_path).suspicions
    write_pair("a", mask(0, 1, 2, 0, 1, 2, 0, *[255] * 73))
    (line,) = report_of(tmp_path).suspicions
    assert line.startswith("train: 91.25 % of the pixels of the annotations are ignored")


def test_classes_that_are_never_shown(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", HALF)
    write_pair("b", mask(*[4] * 20), split="validation")
    assert [line.partition(":")[2] for line in report_of(tmp_path, num_classes=20).suspicions] == [
        " of the 20 classes, the annotations never contain 3, 5, 6, 7, 8, 9, 10, 11, 12, 13 and 6 more: num_classes "
        "may be too high, or the label map wrong",
        " the annotations never contain 4, but those of validation do: a network cannot learn what it never sees; "
        "split the images again",
    ]


@pytest.mark.parametrize(
    ("validation", "test", "said"),
    [((1, 2), (4,), "4, but those of test do"), ((3,), (4,), "3, 4, but those of validation and test do")],
)
def test_classes_that_other_splits_show(
    tmp_path: Path, write_pair: PairWriter, validation: tuple[int, ...], test: tuple[int, ...], said: str
) -> None:
    write_pair("a", HALF)
    write_pair("b", mask(*validation * 10), split="validation")
    write_pair("c", mask(*test * 10), split="test")
    (line,) = (line for line in report_of(tmp_path, num_classes=5).suspicions if "those of" in line)
    assert f"the annotations never contain {said}: a network" in line


def test_names_of_classes_are_said_on_one_line(write_pair: PairWriter) -> None:
    listing = Listing(
        "train",
        (write_pair("a", HALF),),
        (),
        ColorMap(tuple((value, name, value) for value, name in enumerate(("sky", "road", "car", "a\nb", "x" * 99)))),
    )
    report = check([(listing, parse_label_map({"scale": 1}, 5, "map.json"))], workers=0)
    assert f"never contain 3 ('a\\nb'), 4 ({'x' * 40}): " in report.suspicions[0]


@pytest.mark.parametrize(
    ("values", "num_classes", "scale"),
    [
        ((0, 3, 6), 3, "3"),
        ((0, 3, 6, 255), 3, "3"),
        ((0, 127, 254), 3, "127"),
        ((0, 85, 170, 255), 4, "85"),
        ((0, 127), 2, "127"),
        ((0, 2, 4), 5, "2"),
        ((0, 2), 3, None),  # two classes of three
        ((0, 128, 255), 3, None),  # under the scale 128, 255 would be the class of 128
        ((0, 127, 254), 2, None),
        ((0, 3, 7), 3, None),
    ],
)
def test_values_that_were_spread(
    tmp_path: Path, write_pair: PairWriter, values: tuple[int, ...], num_classes: int, scale: str | None
) -> None:
    write_pair("a", mask(*values * 10))
    found = [line for line in report_of(tmp_path, num_classes).suspicions if "multiples" in line]
    assert len(found) == (scale is not None)
    if scale:
        assert found[0].endswith(f'give the label map {{"scale": "{scale}"}}')
        report = report_of(tmp_path, num_classes, {"scale": scale})
        assert not report.problems
        assert not any("multiples" in line for line in report.suspicions)
