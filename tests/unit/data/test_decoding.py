from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.decoding import open_image, read_values, require_classes, require_same_size, verify_image
from semseg.data.files import LoadedFile
from semseg.data.ground_truth import ColorMap
from semseg.data.label_map import UNLISTED_COLOR, LabelMap, parse_label_map
from semseg.data.pairs import Pair
from semseg.errors import DataError
from semseg.types import IGNORED

WHITE, GREEN, BLUE = 0xFFFFFF, 0x2CA02C, 0x1F77B4
LABELS = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
SCALE = parse_label_map({"scale": 1}, 3, "map.json")
COLORS = parse_label_map({"colors": {"0": "#ffffff", "1": "#1f77b4", "255": "#000000"}}, 3, "map.json")
GROUND_TRUTH = ColorMap(((0, "BACKGROUND", WHITE), (1, "scratch", GREEN), (2, "dent", BLUE)))


def palette_png(*colors: int) -> bytes:
    image = Image.fromarray(LABELS)
    image.putpalette(b"".join(color.to_bytes(3, "big") for color in colors))
    return encoded(image)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pair(mask: bytes = b"", colors: ColorMap | None = None, image: bytes = b"") -> Pair:
    return Pair(LoadedFile("train/a.jpg", image), LoadedFile("train_annotation/a.png", mask), colors)


class TestValues:
    def test_of_palettes_the_index_counts(self) -> None:
        np.testing.assert_array_equal(read_values(pair(palette_png(1, 2, 3)), SCALE), LABELS)

    def test_a_label_map_of_colours_comes_first(self) -> None:
        values = read_values(pair(palette_png(WHITE, BLUE, GREEN), GROUND_TRUTH), COLORS)
        np.testing.assert_array_equal(values, np.array([0, 1, UNLISTED_COLOR])[LABELS])
        np.testing.assert_array_equal(COLORS.apply(values), np.array([0, 1, IGNORED])[LABELS])

    def test_colours_that_are_ignored(self) -> None:
        values = read_values(pair(palette_png(0, BLUE, BLUE)), COLORS)
        np.testing.assert_array_equal(COLORS.apply(values), np.array([IGNORED, 1, 1])[LABELS])

    def test_ground_truth_comes_next(self) -> None:
        wrong = palette_png(WHITE, BLUE, GREEN)
        np.testing.assert_array_equal(read_values(pair(wrong, GROUND_TRUTH), SCALE), np.array([0, 2, 1])[LABELS])

    def test_a_label_map_translates_what_ground_truth_says(self) -> None:
        label_map = parse_label_map({"map": {"0": 0, "1": 2}}, 2, "map.json")
        values = read_values(pair(palette_png(WHITE, GREEN, BLUE), GROUND_TRUTH), label_map)
        np.testing.assert_array_equal(label_map.apply(values), np.array([0, IGNORED, 1])[LABELS])

    @pytest.mark.parametrize("colors", [None, GROUND_TRUTH])
    @pytest.mark.parametrize("label_map", [SCALE, COLORS])
    def test_errors_name_the_mask(self, colors: ColorMap | None, label_map: LabelMap) -> None:
        with pytest.raises(DataError, match=r"^train_annotation/a\.png: The image is empty"):
            read_values(pair(b"", colors), label_map)


class TestFewBitsOfGrey:
    """A 2-bit PNG file of a row of the samples 0 to 3, which Pillow gives as 0, 85, 170, 255."""

    @pytest.fixture
    def mask(self) -> Pair:
        header, row = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0), zlib.compress(b"\0\x1b")
        chunks = [(b"IHDR", header), (b"IDAT", row), (b"IEND", b"")]
        parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
        return pair(b"\x89PNG\r\n\x1a\n" + b"".join(parts))

    @pytest.mark.req("R26", "R30")
    @pytest.mark.parametrize("source", [{"scale": "85"}, {"map": {"0": 0, "1": 85, "2": 170, "3": 255}}])
    def test_under_a_label_map_is_what_the_same_mask_in_8_bits_is(self, mask: Pair, source: dict[str, Any]) -> None:
        label_map = parse_label_map(source, 4, "map.json")
        eight = pair(encoded(Image.fromarray(np.array([[0, 85, 170, 255]], np.uint8))))
        for one in (mask, eight):
            assert label_map.apply(read_values(one, label_map)).tolist() == [[0, 1, 2, 3]]

    @pytest.mark.parametrize("scale", [1, "1", "1.0"])
    def test_under_scale_1_counts_as_stored(self, mask: Pair, scale: str | int) -> None:
        assert read_values(mask, parse_label_map({"scale": scale}, 4, "map.json")).tolist() == [[0, 1, 2, 3]]


class TestImages:
    def test_the_header_or_the_whole_is_read(self) -> None:
        jpeg = encoded(Image.new("RGB", (30, 20)), "JPEG")
        image = open_image(pair(image=jpeg))
        assert image.size == (30, 20)
        assert verify_image(pair(image=jpeg), image) == (20, 30)

    def test_errors_name_the_image(self) -> None:
        cut = encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-200]
        with pytest.raises(DataError, match=r"^train/a\.jpg: The image cannot be decoded"):
            verify_image(pair(image=cut), open_image(pair(image=cut)))
        with pytest.raises(DataError, match=r"^train/a\.jpg: This is text, neither JPEG nor PNG"):
            open_image(pair(image=b"text"))


class TestSizes:
    def test_equal_sizes_are_fine(self) -> None:
        require_same_size(pair(), (20, 30), (20, 30))

    def test_both_sizes_are_named(self) -> None:
        with pytest.raises(DataError) as raised:
            require_same_size(pair(), (20, 30), (20, 31))
        assert raised.value.message == "train_annotation/a.png has 31 x 20 pixels, train/a.jpg 30 x 20."
        assert "one pixel for each" in raised.value.hint

    @pytest.mark.parametrize(("orientation", "word"), [(1, "one pixel for each"), (6, "EXIF")])
    def test_a_turned_image_is_explained(self, orientation: int, word: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        jpeg = encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif)
        with pytest.raises(DataError) as raised:
            require_same_size(pair(image=jpeg), (20, 30), (30, 20))
        assert word in raised.value.hint


class TestClasses:
    def test_values_that_are_no_class_are_named(self) -> None:
        pixels = np.bincount(np.array([0, 2, 3, 9, 255]), minlength=256)
        with pytest.raises(DataError, match=r"^train_annotation/a\.png: pixel values 3, 9 are not classes under"):
            require_classes(pair().mask, pixels, SCALE)

    def test_classes_and_ignored_pixels_are_fine(self) -> None:
        require_classes(pair().mask, np.bincount(np.array([0, 2, 255]), minlength=256), SCALE)
