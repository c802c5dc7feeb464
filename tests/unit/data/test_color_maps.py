"""Label maps by colour: which classes are kept, what is too much, and which contradict each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.color_maps import contradictions
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.data.report import Report

PairWriter = Callable[..., Pair]
BLACK, RED, GREEN, BLUE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
SPLITS = ("train", "validation", "test")


def report_of(root: Path, num_classes: int, **maps: dict[str, Any]) -> Report:
    return check(
        [
            (
                list_pairs(name, root / name, root / f"{name}_annotation"),
                parse_label_map(maps.get(name, {"scale": 1}), num_classes, "map.json"),
            )
            for name in SPLITS
            if (root / name).exists()
        ],
        workers=0,
    )


def pixels(*colors: tuple[int, int, int]) -> Any:
    return np.array([colors] * 4, np.uint8)


def test_splits_of_different_colours_get_one_map(tmp_path: Path, write_pair: PairWriter) -> None:
    for split, colors in zip(SPLITS, ((BLACK, RED, RED), (GREEN, GREEN, BLACK), (BLUE, RED, BLACK)), strict=True):
        write_pair("a", pixels(*colors), (4, 3), split)
    report = report_of(tmp_path, 4)
    assert report.suggested_label_map == {"colors": {"0": "#000000", "1": "#0000ff", "2": "#00ff00", "3": "#ff0000"}}
    first, *others = report.problems
    assert json.dumps(report.suggested_label_map) in first.hint
    assert [problem.hint for problem in others] == [
        f"The label map suggested for {SPLITS[0]} is for {split} too." for split in SPLITS[1:]
    ]


def test_another_image_of_the_same_colours_changes_nothing(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", pixels(BLACK, RED, GREEN), (4, 3))
    before = report_of(tmp_path, 3).suggested_label_map
    for name in "bcd":
        write_pair(name, pixels(GREEN, RED, GREEN), (4, 3))
    assert report_of(tmp_path, 3).suggested_label_map == before


def test_colours_keep_the_classes_of_another_split_s_map(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", pixels(BLACK, RED, BLUE), (4, 3))
    write_pair("b", pixels(BLACK, RED, GREEN), (4, 3), "validation")
    given = {"colors": {"2": "#000000", "0": ["#0000ff", "#ff0000"]}}
    report = report_of(tmp_path, 3, train=given)
    assert report.suggested_label_map == {"colors": {"0": ["#0000ff", "#ff0000"], "1": "#00ff00", "2": "#000000"}}
    assert not report_of(tmp_path, 3, train=given, validation=report.suggested_label_map).suspicions[1:]


def test_colours_keep_the_classes_of_ground_truth(write_pair: PairWriter) -> None:
    colors = ColorMap(((0, "BACKGROUND", 0xFFFFFF), (1, "road", 0x2CA02C), (2, "car", 0x1F77B4)))
    palette_mask = write_pair("a", np.zeros((4, 3), np.uint8), (4, 3))
    edited = write_pair("b", pixels((0x2C, 0xA0, 0x2C), (255, 255, 255), BLACK), (4, 3))
    pairs = tuple(Pair(pair.image, pair.mask, colors) for pair in (palette_mask, edited))
    label_map = parse_label_map({"map": {"2": 0, "0": 1, "1": 2}}, 4, "map.json")
    report = check([(Listing("train", pairs, (), colors), label_map)], workers=0)
    assert report.suggested_label_map == {"colors": {"0": "#2ca02c", "1": "#1f77b4", "2": "#ffffff", "3": "#000000"}}


def test_more_colours_than_classes_can_be_are_said(tmp_path: Path, write_pair: PairWriter) -> None:
    for split in ("train", "validation"):
        shades = [(200, number, 9 if split == "train" else 8) for number in range(200)]
        write_pair("a", pixels(*shades), (4, 200), split)
    report = report_of(tmp_path, 4)
    assert report.suggested_label_map is None
    assert all("There are more than 254 colours, as in photographs." in problem.message for problem in report.problems)


def test_the_map_of_a_split_that_is_no_photograph_is_proposed(tmp_path: Path, write_pair: PairWriter) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    write_pair("a", noise, (40, 40))
    write_pair("a", pixels(BLACK, RED, GREEN), (4, 3), "validation")
    report = report_of(tmp_path, 3)
    assert "There are more than 256 colours, as in photographs." in report.problems[0].message
    assert report.suggested_label_map == {"colors": {"0": "#000000", "1": "#00ff00", "2": "#ff0000"}}


def test_black_of_images_without_any_object_is_named(tmp_path: Path, write_pair: PairWriter) -> None:
    write_pair("a", pixels(RED, GREEN, GREEN), (4, 3))
    Image.new("RGB", (3, 4)).save(tmp_path / "train_annotation/b.png")
    Image.new("RGB", (3, 4)).save(tmp_path / "train/b.png")
    assert report_of(tmp_path, 3).suggested_label_map == {"colors": {"0": "#000000", "1": "#00ff00", "2": "#ff0000"}}


class TestContradictions:
    @staticmethod
    def of(*sources: dict[str, Any]) -> list[str]:
        return list(
            contradictions(
                (name, parse_label_map(source, 20, "map.json")) for name, source in zip(SPLITS, sources, strict=False)
            )
        )

    def test_one_colour_of_two_classes(self) -> None:
        assert self.of(
            {"colors": {"0": "#000000", "1": "#ff0000", "2": "#00ff00"}},
            {"colors": {"0": "#000000", "2": ["#FF0000"], "1": "#00ff00"}},
        ) == [
            "train and validation: their label maps give one colour different classes (#ff0000: 1 and 2, #00ff00: 2 "
            "and 1); make them agree, or give one label_map.json for all splits"
        ]

    def test_a_class_that_another_ignores(self) -> None:
        (line,) = self.of({"colors": {"0": "#000000"}}, {"colors": {"255": "#000000", "0": "#ff0000"}})
        assert "#000000: 0 and 255" in line

    def test_of_the_test_split(self) -> None:
        same = {"colors": {"0": "#000000", "1": "#ff0000"}}
        lines = self.of(same, same, {"colors": {"1": "#000000", "0": "#ff0000"}})
        assert [line.partition(":")[0] for line in lines] == ["train and test", "validation and test"]

    def test_many_are_counted(self) -> None:
        first = {"colors": {str(number): f"#0000{number:02x}" for number in range(20)}}
        other = {"colors": {str(number): f"#0000{19 - number:02x}" for number in range(20)}}
        assert "and 10 more); " in self.of(first, other)[0]

    @pytest.mark.parametrize(
        "other",
        [
            {"colors": {"1": "#ff0000", "0": "#000000"}},
            {"colors": {"0": ["#000000", "#0000ff"], "7": "#00ff00"}},
            {"scale": 1},
            {"map": {"1": 0}},
        ],
    )
    def test_none(self, other: dict[str, Any]) -> None:
        assert not self.of({"colors": {"0": "#000000", "1": "#ff0000"}}, other)

    def test_maps_of_values_may_differ(self) -> None:
        assert not self.of({"map": {"0": 0, "1": 1}}, {"map": {"0": 1, "1": 0}}, {"scale": 9})

    def test_are_suspicions_of_the_check(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for split in ("train", "validation"):
            write_pair(split, pixels(BLACK, RED, RED), (4, 3), split)
        report = report_of(
            tmp_path,
            2,
            train={"colors": {"0": "#000000", "1": "#ff0000"}},
            validation={"colors": {"1": "#000000", "0": "#ff0000"}},
        )
        assert not report.problems
        assert [line.partition(" give")[0] for line in report.suspicions] == ["train and validation: their label maps"]
