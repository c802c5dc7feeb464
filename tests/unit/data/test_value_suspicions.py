from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.check import check
from semseg.data.files import LocalFile
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Pair, list_pairs
from semseg.data.report import Report
from semseg.reporting.data_report import as_json
from semseg.types import UInt8

PairWriter = Callable[..., Pair]


def report_of(root: Path, num_classes: int, source: dict[str, Any] | None = None) -> Report:
    label_map = parse_label_map(source or {"scale": 1}, num_classes, "map.json")
    names = [name for name in ("train", "validation", "test") if (root / name).exists()]
    splits = [(list_pairs(name, root / name, root / f"{name}_annotation"), label_map) for name in names]
    return check(splits, workers=0)


def about(report: Report, word: str) -> list[str]:
    """The suspicions with a word, which the report for programs has too."""
    assert as_json(report)["suspicions"] == list(report.suspicions)
    return [line for line in report.suspicions if word in line]


def proposed(line: str) -> dict[str, Any]:
    """The label map in a sentence."""
    source: dict[str, Any] = json.loads(line[line.index("{") : line.rindex("}") + 1])
    return source


def mask(*values: int) -> UInt8:
    """8 x 10 pixels of these values in turn."""
    return np.resize(np.array(values, np.uint8), (8, 10))


def store_grey(pair: Pair, depth: int, *samples: int) -> None:
    """Write the mask of a pair anew: 8 x 10 grey samples of 1, 2 or 4 bits."""
    rows = np.resize(np.array(samples, np.uint8), (8, 10))
    bits = np.unpackbits(rows[..., None], axis=2)[..., 8 - depth :].reshape(8, -1)
    data = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in bits))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 10, 8, depth, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    assert isinstance(pair.mask, LocalFile)
    pair.mask.path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


class TestValuesUnderAScale:
    def test_of_smoothed_edges(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 255))
        for stem in "bc":
            write_pair(stem, mask(0, *range(3, 255, 7), 255))
        report = report_of(tmp_path, 2, {"scale": 255})
        assert report.suspicions == (
            "train: 150 pixels in 2 masks (such as train_annotation/b.png) have values that are not multiples of the "
            "scale 255 (3, 10, 17, 24, 31, 38, 45, 52, 59, 66 and 26 more) and are rounded down: masks must not be "
            "smoothed or resized with interpolation",
        )
        assert report.splits[0].class_pixels.tolist() == [196, 44]  # the documented rule stands

    def test_of_classes_of_their_own_a_map_is_proposed(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 128, 255))
        write_pair("b", mask(0, 255), split="validation")
        (line,) = report_of(tmp_path, 2, {"scale": "255"}).suspicions
        assert line.startswith(
            "train: 27 pixels in 1 mask (train_annotation/a.png) have values that are not multiples of the "
            "scale 255 (128)"
        )
        assert line.endswith(
            "if each value is a class, give num_classes 3 and the label map "
            '{"map": {"0": 0, "1": 128, "2": 255}}, with your class ids'
        )
        report = report_of(tmp_path, 3, proposed(line))
        assert not report.problems
        assert report.splits[0].class_pixels.tolist() == [27, 27, 26]
        assert not about(report, "multiples")

    @pytest.mark.parametrize(
        ("scale", "values", "uneven"),
        [
            (2.5, (0, 3, 5, 8, 10), None),  # the first values of the classes 0 to 4
            (2.5, (0, 2, 5, 7, 10), "2, 7"),  # their classes would be 0, 0, 2, 2, 4
            (63.75, (0, 64, 128, 192, 255), None),
            (63.75, (0, 64, 128, 191, 255), "191"),
            (1.5, (0, 1, 2, 3), "1"),
            (3, (0, 3, 6, 255), None),  # 255 is no class and ignored
            (100, (0, 100, 255), None),  # 255 has its class for itself
            (100, (0, 100, 200, 255), "255"),
            (128, (0, 255), None),
            (10, (0, 11), "11"),
            (1, (0, 1, 2, 3, 4), None),
        ],
    )
    def test_are_no_multiples_rounded_up_to_whole_numbers(
        self, tmp_path: Path, write_pair: PairWriter, scale: float, values: tuple[int, ...], uneven: str | None
    ) -> None:
        write_pair("a", mask(*values))
        lines = about(report_of(tmp_path, 5, {"scale": scale}), "multiples")
        assert len(lines) == (uneven is not None)
        if uneven:
            assert f"the scale {scale:g} ({uneven}) and" in lines[0]

    def test_none_of_other_maps(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 128, 255))
        report = report_of(tmp_path, 3, {"map": {"0": 0, "1": 128, "2": 255}})
        assert not report.suspicions

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_none_of_grey_of_any_depth(self, tmp_path: Path, write_pair: PairWriter, depth: int) -> None:
        pair = write_pair("a", mask(0, 255))
        if depth < 8:
            store_grey(pair, depth, 0, (1 << depth) - 1)
        assert not report_of(tmp_path, 2, {"scale": 255}).suspicions


class TestNeededMap:
    @pytest.mark.parametrize(
        ("values", "num_classes", "needed"),
        [
            ((0, 128, 255), 3, {"0": 0, "1": 128, "2": 255}),
            ((0, 128, 255), 2, {"0": 0, "1": 128}),  # 255 may be a border
            ((0, 127, 254, 255), 3, {"0": 0, "1": 127, "2": 254}),  # 127 as a scale would make one class of 254 and 255
            ((0, 127, 255), 3, {"0": 0, "1": 127, "2": 255}),  # 255 is no multiple of 127
            ((0, 3, 7), 3, {"0": 0, "1": 3, "2": 7}),
            ((0, 64, 128, 255), 2, None),  # more than there are classes
            ((0, 1, 2), 3, None),
            ((0, 128, 255), 200, None),  # classes that are rarely shown
            (tuple(range(0, 255, 5)), 50, None),
        ],
    )
    def test_lists_few_values(
        self, tmp_path: Path, write_pair: PairWriter, values: tuple[int, ...], num_classes: int, needed: Any
    ) -> None:
        write_pair("a", mask(*values))
        report = report_of(tmp_path, num_classes)
        lines = about(report, "if each is a class")
        assert [proposed(line)["map"] for line in lines] == ([needed] if needed else [])
        assert not about(report, '{"scale": 255}')
        if needed:
            report = report_of(tmp_path, num_classes, {"map": needed})
            assert not report.problems
            assert not about(report, "label map {")

    def test_is_one_for_all_splits(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 85, 170))
        write_pair("b", mask(0, 170), split="validation")
        assert about(report_of(tmp_path, 3), "label map {") == [
            "train and validation: all pixel values (0, 85, 170) are multiples of 85; if they were spread to be "
            'visible, give the label map {"scale": "85"}'
        ]

    def test_is_none_for_0_and_255_where_another_split_holds_more(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 128, 255))
        write_pair("b", mask(0, 255), split="validation")
        report = report_of(tmp_path, 3)
        assert not about(report, '{"scale": 255}')
        (line,) = about(report, "if each is a class")
        assert line == (
            "train and validation: the pixel values are 0, 128, 255: if each is a class, give the label map "
            '{"map": {"0": 0, "1": 128, "2": 255}}, with your class ids'
        )

    def test_is_a_scale_for_0_and_255(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 255))
        write_pair("b", mask(0, 255), split="validation")
        assert [line.partition(":")[0] for line in about(report_of(tmp_path, 2), '{"scale": 255}')] == [
            "train",
            "validation",
        ]
        assert not report_of(tmp_path, 2, {"scale": 255}).suspicions

    @pytest.mark.parametrize("lone", [0, 1])
    def test_is_no_scale_for_a_lone_class_and_its_border(
        self, tmp_path: Path, write_pair: PairWriter, lone: int
    ) -> None:
        write_pair("a", mask(lone, 255))
        write_pair("b", mask(0, 1, 2), split="validation")
        assert not about(report_of(tmp_path, 3), "scale")

    def test_of_4_bits_lists_values_as_stored(self, tmp_path: Path, write_pair: PairWriter) -> None:
        """Under a scale they would be spread first."""
        store_grey(write_pair("a"), 4, 0, 2, 4)
        report = report_of(tmp_path, 3)
        assert not about(report, "multiples")
        (line,) = about(report, "if each is a class")
        report = report_of(tmp_path, 3, proposed(line))
        assert not report.suspicions
        assert report.splits[0].class_pixels.tolist() == [27, 27, 26]


class TestDepths:
    def test_of_grey_that_counts_as_stored_beside_more(self, tmp_path: Path, write_pair: PairWriter) -> None:
        """As where a tool drops bits of masks of 0 and 255, the border, alone."""
        write_pair("a", mask(0, 1, 255))
        for stem in "bc":
            store_grey(write_pair(stem), 1, 0, 1)
        expected = (
            "train: the values of 2 masks (such as train_annotation/b.png), 1-bit grey, count as stored, next to masks "
            "of 8 bits: if a tool dropped unused bits, 255 has become 1; save all masks with 8 bits"
        )
        assert report_of(tmp_path, 2).suspicions == (expected,)
        assert report_of(tmp_path, 2, {"map": {"0": 0, "1": 1}}).suspicions == (expected,)

    def test_of_several(self, tmp_path: Path, write_pair: PairWriter) -> None:
        store_grey(write_pair("a"), 2, 0, 1, 2)
        store_grey(write_pair("b"), 1, 0, 1)
        write_pair("c", mask(0, 1, 2))
        (line,) = report_of(tmp_path, 3).suspicions
        assert (
            "2 masks (such as train_annotation/a.png), 1-bit or 2-bit grey, count as stored, next to masks of 8 bits"
            in line
        )
        assert "255 has become 1 or 3; save" in line

    def test_none_where_all_have_the_same(self, tmp_path: Path, write_pair: PairWriter) -> None:
        for stem in "ab":
            store_grey(write_pair(stem), 2, 0, 1, 2)
        assert not report_of(tmp_path, 3).suspicions

    def test_none_of_zeros(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 1, 2))
        store_grey(write_pair("b"), 1, 0)
        assert not report_of(tmp_path, 3).suspicions

    def test_none_of_palettes(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 1, 2))
        pair = write_pair("b", mask(0, 1))
        assert isinstance(pair.mask, LocalFile)
        image = Image.fromarray(mask(0, 1))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(pair.mask.path, bits=1)
        assert not report_of(tmp_path, 3).suspicions

    def test_none_where_they_are_spread(self, tmp_path: Path, write_pair: PairWriter) -> None:
        write_pair("a", mask(0, 255))
        store_grey(write_pair("b"), 1, 0, 1)
        for source in ({"scale": 255}, {"map": {"0": 0, "1": 255}}, {"colors": {"0": "#000000", "1": "#ffffff"}}):
            assert not report_of(tmp_path, 2, source).suspicions
