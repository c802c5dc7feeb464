"""Masks with palettes that contradict each other, and those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.codecs.palettes import palette
from semseg.data.check import check
from semseg.data.files import File, LocalFile
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing, Pair
from semseg.data.report import Report

PairWriter = Callable[..., Pair]
BLACK, RED, GREEN, BLUE, WHITE = 0x000000, 0xFF0000, 0x00FF00, 0x0000FF, 0xFFFFFF
CONTRADICTION = "palette of its own"


class Masks:
    """Masks of two splits, and what the check suspects of them."""

    def __init__(self, write_pair: PairWriter) -> None:
        self._write_pair = write_pair
        self._pairs: dict[str, list[Pair]] = {"train": [], "validation": []}
        self.maps: dict[str, dict[str, Any]] = {}
        self.colors: ColorMap | None = None

    def add(self, image: Image.Image, split: str = "train", **options: Any) -> None:
        pairs = self._pairs[split]
        pair = self._write_pair(str(len(pairs)), size=image.size[::-1], split=split)
        image.save(path_of(pair.mask), **options)
        pairs.append(Pair(pair.image, pair.mask, self.colors))

    def report(self, num_classes: int) -> Report:
        maps = {
            split: parse_label_map(self.maps.get(split, {"scale": 1}), num_classes, f"{split}_label_map.json")
            for split in self._pairs
        }
        splits = [
            (Listing(split, tuple(pairs), (), self.colors), maps[split])
            for split, pairs in self._pairs.items()
            if pairs
        ]
        return check(splits, workers=0)

    def suspicion(self, num_classes: int) -> str:
        """What is said of palettes; empty if nothing is."""
        return next((line for line in self.report(num_classes).suspicions if CONTRADICTION in line), "")


def path_of(file: File) -> Path:
    assert isinstance(file, LocalFile)
    return file.path


@pytest.fixture
def masks(write_pair: PairWriter) -> Masks:
    return Masks(write_pair)


def indexed(colors: Sequence[int], *values: int) -> Image.Image:
    """A mask of some values, by default all that have a colour."""
    image = grey(*(values or range(len(colors))))
    image.putpalette(b"".join(color.to_bytes(3, "big") for color in colors))
    return image


def grey(*values: int) -> Image.Image:
    return Image.fromarray(np.tile(np.array(values, np.uint8), (6, 1)))


def full(name: str) -> list[int]:
    """A palette of 256 colours."""
    return [int.from_bytes(color.tobytes(), "big") for color in palette(name)]


class TestContradictions:
    def test_a_colour_with_two_values(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED]))
        masks.add(indexed([BLACK, GREEN, RED]))
        report = masks.report(3)
        assert not report.problems
        assert report.suspicions[0] == (
            "#ff0000 is class 1 (value 1) in train_annotation/0.png, but class 2 (value 2) in train_annotation/1.png, "
            "as where each file has a palette of its own; if the colours are right, give a label map by colour (semseg "
            'check --write-label-map FILE writes it): {"colors": {"0": "#000000", "1": "#00ff00", "2": "#ff0000"}}'
        )

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_between_splits_in_any_depth(self, masks: Masks, bits: int) -> None:
        masks.add(indexed([BLACK, RED, GREEN]), bits=bits)
        masks.add(indexed([BLACK, GREEN, RED]), "validation", bits=bits)
        assert masks.suspicion(3).startswith(
            "#00ff00 is class 2 (value 2) in train_annotation/0.png, but class 1 (value"
        )

    def test_of_1_bit(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, WHITE]), bits=1)
        masks.add(indexed([WHITE, BLACK]), "validation", bits=1)
        assert "#ffffff is class 1 (value 1) in train_annotation/0.png, but class 0 (value 0)" in masks.suspicion(2)
        assert masks.report(2).suggested_label_map == {"colors": {"0": "#000000", "1": "#ffffff"}}

    def test_where_a_palette_is_filled_up(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED, *[BLACK] * 254], 0, 1))
        masks.add(indexed([RED, *[BLACK] * 255], 0))
        assert "#ff0000 is class 1" in masks.suspicion(2)

    def test_of_numbers_in_grey_and_a_palette_of_them(self, masks: Masks) -> None:
        masks.add(grey(0, 7, 9))
        masks.add(indexed([0, 0x090909]))
        assert "#090909 is class 9 (value 9) in train_annotation/0.png, but class 1 (value 1)" in masks.suspicion(10)

    def test_of_a_palette_and_numbers_after_it(self, masks: Masks) -> None:
        masks.add(indexed([0, 0x090909]))
        masks.add(grey(0, 7))
        masks.add(grey(0, 7, 9))
        assert "class 1 (value 1) in train_annotation/0.png, but class 9 (value 9)" in masks.suspicion(10)

    def test_of_masks_that_the_label_map_ignores(self, masks: Masks) -> None:
        """As where one of many masks of 0 and 15 was made smaller."""
        masks.maps = {"train": {"map": {"0": 0, "1": 15}}}
        masks.add(indexed(full("voc"), 0, 15))
        masks.add(indexed([full("voc")[0], full("voc")[15]]))
        assert "#c08080 is class 1 (value 15)" in masks.suspicion(2)
        assert "but ignored (value 1)" in masks.suspicion(2)

    def test_two_colours_of_a_value_where_colours_explain_the_classes(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED]))
        masks.add(indexed([BLACK, GREEN]))
        assert masks.suspicion(3).startswith(
            "the value 1 is #ff0000 in train_annotation/0.png, but #00ff00 in train_annotation/1.png, and there are as "
            "many colours as classes, but fewer values"
        )


class TestNone:
    def test_of_one_palette(self, masks: Masks) -> None:
        for values in ((0, 1), (0, 5, 20), (0, 255)):
            masks.add(indexed(full("voc"), *values))
        assert not masks.suspicion(21)
        assert masks.report(21).suggested_label_map is None

    @pytest.mark.parametrize("name", ["ade20k", "cityscapes"])
    def test_of_palettes_that_show_the_same_classes_in_other_colours(self, masks: Masks, name: str) -> None:
        masks.add(indexed(full("voc"), 0, 1, 2, 255))
        masks.add(indexed(full(name), 0, 1, 2, 255))
        assert not masks.suspicion(3)
        assert not masks.suspicion(12)

    def test_of_grey_and_coloured_masks_of_the_same_classes(self, masks: Masks) -> None:
        ramp = [level * 0x010101 for level in range(256)]
        masks.add(grey(0, 1, 2, 255))
        masks.add(indexed(full("voc"), 0, 1, 2, 255), "validation")
        masks.add(indexed(ramp, 0, 1, 2, 255), "validation")
        masks.add(Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("RGB"))
        for num_classes in (3, 4):
            assert not masks.suspicion(num_classes)

    def test_of_values_that_no_pixel_has(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED, GREEN, BLUE], 0, 1))
        masks.add(indexed([BLACK, RED, BLUE, GREEN], 0, 1))
        assert not masks.suspicion(4)

    def test_of_a_colour_that_fills_a_palette_up(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED, *[BLACK] * 254], 1, 5))
        masks.add(indexed(full("voc"), 0))
        assert not masks.suspicion(6)

    def test_of_ignored_pixels_in_any_colour(self, masks: Masks) -> None:
        masks.add(indexed([WHITE, RED, *[1] * 254], 0, 1))
        masks.add(indexed([*range(1, 256), WHITE], 0, 255))
        assert not masks.suspicion(2)

    def test_of_values_of_one_class(self, masks: Masks) -> None:
        masks.maps = {"train": {"scale": 2}}
        masks.add(indexed([BLACK, BLUE, RED, GREEN]))
        masks.add(indexed([BLACK, BLUE, GREEN, RED]))
        assert not masks.suspicion(2)

    def test_of_numbers_that_label_maps_read_differently(self, masks: Masks) -> None:
        """Values may mean what they will in each split."""
        masks.maps = {"validation": {"scale": 3}}
        for kind in (grey, lambda *values: grey(*values).convert("RGB")):
            masks.add(kind(0, 1, 2, 3))
            masks.add(kind(0, 3, 6, 9), "validation")
        assert not masks.suspicion(4)

    def test_of_one_palette_that_label_maps_read_differently(self, masks: Masks) -> None:
        masks.maps = {"validation": {"map": {"0": 0, "1": 2, "255": 1}}}
        for split in ("train", "validation"):
            masks.add(indexed([BLACK, RED, GREEN]), split)
        assert not masks.suspicion(3)

    def test_of_palettes_whose_label_maps_make_them_agree(self, masks: Masks) -> None:
        masks.maps = {"validation": {"map": {"0": 2, "1": 1, "2": 0}}}
        masks.add(indexed([BLACK, RED, GREEN]))
        masks.add(indexed([GREEN, RED, BLACK]), "validation")
        assert not masks.suspicion(3)

    def test_where_the_colours_explain_no_more_than_the_values(self, masks: Masks) -> None:
        masks.add(indexed([BLACK, RED]))
        masks.add(indexed([BLACK, GREEN]))
        for num_classes in (2, 5):
            assert not masks.suspicion(num_classes)

    def test_where_a_label_map_or_ground_truth_reads_by_colour(self, masks: Masks) -> None:
        masks.maps = {"train": {"colors": {"0": "#000000", "1": "#ff0000", "2": "#00ff00"}}}
        masks.add(indexed([BLACK, RED]))
        masks.add(indexed([BLACK, GREEN, RED]))
        assert not masks.suspicion(3)
        masks.maps, masks.colors = {}, ColorMap(((0, "sky", BLACK), (1, "road", RED), (2, "car", GREEN)))
        masks.add(indexed([BLACK, RED]), "validation")
        masks.add(indexed([BLACK, GREEN, RED]), "validation")
        masks.maps = {"train": {"colors": {"0": "#000000", "1": "#ff0000", "2": "#00ff00"}}}
        assert not masks.suspicion(3)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_of_grey_of_few_bits(self, masks: Masks, bits: int) -> None:
        """Which value its colours have is up to the label map."""
        masks.add(indexed([BLACK, WHITE, 0x555555, 0x111111]))
        image = Image.fromarray(np.zeros((4, 8), np.uint8) + np.uint8(255))
        masks.add(image.convert("1") if bits == 1 else image, bits=bits)
        assert not masks.suspicion(4)


def test_as_many_palettes_as_files_keep_memory_and_message_small(masks: Masks) -> None:
    rng = np.random.default_rng(0)
    for _ in range(9):
        masks.add(indexed(rng.choice(1 << 24, 200, replace=False).tolist()))
    report = masks.report(254)
    assert report.suggested_label_map is None
    assert all(len(line) < 1000 for line in report.suspicions)


def test_the_map_that_is_proposed_once_reads_all_colours_beside_masks_that_are_coloured(masks: Masks) -> None:
    masks.add(indexed([BLACK, RED]))
    masks.add(indexed([RED, GREEN, BLACK]))
    masks.add(indexed([GREEN, BLUE]).convert("RGB"), "validation")
    report = masks.report(4)
    suggested = {"colors": {"0": "#000000", "1": "#0000ff", "2": "#00ff00", "3": "#ff0000"}}
    assert report.suggested_label_map == suggested
    assert json.dumps(suggested) in report.problems[0].hint
    assert any("palette" in line for line in report.suspicions)
    assert not any(json.dumps(suggested) in line for line in report.suspicions)
