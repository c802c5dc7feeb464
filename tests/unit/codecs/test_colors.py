from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from png_chunks import chunk, png_row

from semseg.codecs.colors import color_name, decode_colors, decode_indices, main_colors, parse_color, value_colors
from semseg.codecs.images import open_image
from semseg.codecs.masks import decode_mask
from semseg.errors import ImageError, TooLargeError
from semseg.types import IGNORED, UInt8

WHITE, GREEN, BLUE, RED = 0xFFFFFF, 0x2CA02C, 0x1F77B4, 0xD62728
COLORS = {WHITE: 0, GREEN: 1, BLUE: 2}
LABELS = np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def channels(*colors: int) -> UInt8:
    """uint8 (N, 3)."""
    return np.array([list(color.to_bytes(3, "big")) for color in colors], np.uint8)


def parse_rgb(color: int) -> tuple[int, ...]:
    return tuple(color.to_bytes(3, "big"))


def painted(labels: UInt8, *colors: int) -> Image.Image:
    return Image.fromarray(channels(*colors)[labels])


def indexed(indices: UInt8, *colors: int) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(channels(*colors).tobytes())
    return image


@pytest.mark.parametrize(
    "image",
    [
        painted(LABELS, WHITE, GREEN, BLUE),
        painted(LABELS, WHITE, GREEN, BLUE).convert("RGBA"),
        indexed(LABELS, WHITE, GREEN, BLUE),
    ],
    ids=["RGB", "RGBA", "P"],
)
class TestAnyMode:
    def test_colours_give_the_values(self, image: Image.Image) -> None:
        values = decode_colors(encode(image), COLORS, 9)
        np.testing.assert_array_equal(values, LABELS)
        assert values.dtype == np.uint8
        assert values.flags.c_contiguous

    def test_other_colours_give_the_value_for_them(self, image: Image.Image) -> None:
        values = decode_colors(encode(image), {BLUE: 7}, 9)
        np.testing.assert_array_equal(values, np.where(LABELS == 2, 7, 9))

    def test_the_most_frequent_colours_come_first(self, image: Image.Image) -> None:
        image = image.copy()
        image.paste(parse_rgb(BLUE) if image.mode != "P" else 2, (0, 0, 1, 1))
        assert main_colors(encode(image)) == [(BLUE, 4), (GREEN, 3), (WHITE, 1)]
        assert main_colors(encode(image), 1) == [(BLUE, 4)]


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_any_colours_find_their_values(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    colors = rng.choice(1 << 24, count, replace=False).tolist()
    of_color = rng.integers(0, 256, count)
    pixels = rng.integers(0, count, (7, 5))
    image = Image.fromarray(channels(*colors)[pixels])
    listed = dict(zip(colors[::2], of_color[::2].tolist(), strict=True))
    expected = np.where(pixels % 2 == 0, of_color[pixels], 77)
    np.testing.assert_array_equal(decode_colors(encode(image), listed, 77), expected)


@pytest.mark.parametrize("hidden", [True, False])
def test_transparency_never_counts(hidden: bool) -> None:
    image = painted(LABELS, WHITE, GREEN, BLUE).convert("RGBA")
    image.putalpha(Image.fromarray((LABELS * (0 if hidden else 100)).astype(np.uint8)))
    np.testing.assert_array_equal(decode_colors(encode(image), COLORS, 9), LABELS)


@pytest.mark.parametrize("image", [painted(LABELS, WHITE, GREEN, BLUE), indexed(LABELS, WHITE, GREEN, BLUE)])
def test_a_transparent_colour_is_a_colour(image: Image.Image) -> None:
    data = encode(image, transparency=parse_rgb(GREEN) if image.mode == "RGB" else 1)
    np.testing.assert_array_equal(decode_colors(data, COLORS, 9), LABELS)
    assert (GREEN, 3) in main_colors(data)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_a_colour(mode: str) -> None:
    image = Image.fromarray((LABELS % 2 * 255).astype(np.uint8)).convert(mode)
    np.testing.assert_array_equal(decode_colors(encode(image), {WHITE: 1, 0: 5}, 9), np.where(LABELS % 2, 1, 5))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_palettes_of_few_bits(depth: int) -> None:
    samples: UInt8 = (np.arange(16) % (1 << depth)).astype(np.uint8)
    bits = np.unpackbits(samples[:, None], axis=1)[:, 8 - depth :]
    palette = channels(*range(100, 100 + (1 << depth))).tobytes()
    data = png_row(16, depth, 3, np.packbits(bits).tobytes(), chunk(b"PLTE", palette))
    np.testing.assert_array_equal(decode_colors(data, {100 + n: n for n in range(16)}, 99)[0], samples)


def test_an_index_without_a_colour_is_unlisted() -> None:
    data = png_row(3, 8, 3, bytes([0, 1, 200]), chunk(b"PLTE", channels(0, GREEN).tobytes()))
    assert decode_colors(data, {0: 0, GREEN: 1}, 9).tolist() == [[0, 1, 9]]


def test_two_indices_of_one_colour_are_one_class() -> None:
    data = encode(indexed(LABELS, GREEN, BLUE, GREEN))
    np.testing.assert_array_equal(decode_colors(data, COLORS, 9), np.where(LABELS == 1, 2, 1))


SIXTEEN_BITS = [
    encode(Image.fromarray(np.array([[5, 300]], np.uint16))),
    png_row(2, 16, 2, bytes(12)),
    png_row(2, 16, 4, bytes(8)),
    png_row(2, 16, 6, bytes(16)),
]


@pytest.mark.parametrize("data", SIXTEEN_BITS, ids=["grey", "RGB", "LA", "RGBA"])
def test_sixteen_bits_are_refused(data: bytes) -> None:
    for decode in (lambda: decode_colors(data, COLORS, 9), lambda: main_colors(data)):
        with pytest.raises(ImageError, match="16 bits per channel"):
            decode()


def test_a_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match="is a JPEG file, not PNG"):
        decode_colors(encode(painted(LABELS, WHITE, GREEN, BLUE), "JPEG"), COLORS, 9)


def test_too_many_pixels_are_refused_undecoded() -> None:
    cut = encode(painted(LABELS, WHITE, GREEN, BLUE))[:50]
    for decode in (decode_colors, lambda data, colors, _, limit: decode_indices(data, colors, limit)):
        with pytest.raises(TooLargeError, match="4 x 2 pixels"):
            decode(cut, COLORS, 9, 7)


@pytest.mark.parametrize("image", [painted(LABELS, WHITE, GREEN, BLUE), indexed(LABELS, WHITE, GREEN, BLUE)])
def test_a_cut_file_is_an_error(image: Image.Image) -> None:
    data = encode(image)
    cut = data[: data.index(b"IDAT") + 10]
    for decode in (
        lambda: decode_colors(cut, COLORS, 9),
        lambda: decode_indices(cut, COLORS),
        lambda: main_colors(cut),
    ):
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode()


def test_of_a_large_mask_every_colour_is_counted() -> None:
    """One pixel of 1.5 million, in a row that sampling rows evenly would miss."""
    pixels = np.zeros((1500, 1000), np.uint8)
    pixels[:500] = 1
    pixels[1001, 7] = 2
    data = encode(indexed(pixels, RED, GREEN, BLUE))
    assert main_colors(data) == [(RED, 999_999), (GREEN, 500_000), (BLUE, 1)]
    assert main_colors(data, 1, {RED, GREEN}) == [(BLUE, 1)]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_pixels_of_colours_add_up(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2, (height, width, 3)).astype(np.uint8)
    found = main_colors(encode(Image.fromarray(pixels)))
    assert dict(found) == Counter((pixels @ [1 << 16, 1 << 8, 1]).ravel().tolist())
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))


def test_the_counting_of_a_photograph_s_colours_ends_early() -> None:
    pixels = np.arange(3_000_000, dtype="<u4").view(np.uint8).reshape(3000, 1000, 4)[..., :3]
    found = main_colors(encode(Image.fromarray(np.ascontiguousarray(pixels)), compress_level=1), 256)
    assert len(found) == 256
    assert all(color >> 16 | color & 0xFF00 | (color & 0xFF) << 16 < 500_000 for color, _ in found)


class TestValueColors:
    """The colour of each value, known before any pixel is decoded."""

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_a_palette_s_entries(self, depth: int) -> None:
        count = min(1 << depth, 200)
        image = indexed(np.zeros((1, 8), np.uint8), *range(100, 100 + count))
        opened = open_image(encode(image, bits=depth))
        colors = value_colors(opened)
        assert colors is not None
        assert colors.tolist() == [*range(100, 100 + count), *[-1] * (256 - count)]

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_greys(self, mode: str) -> None:
        colors = value_colors(open_image(encode(Image.fromarray(LABELS).convert(mode))))
        assert colors is not None
        assert [color_name(color) for color in colors[[0, 1, 255]].tolist()] == ["#000000", "#010101", "#ffffff"]

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_grey_of_few_bits_has_none_as_its_values_are_open(self, depth: int) -> None:
        assert value_colors(open_image(png_row(8, depth, 0, bytes(depth)))) is None

    def test_nothing_is_decoded(self) -> None:
        data = encode(indexed(LABELS, RED))
        colors = value_colors(open_image(data[: data.index(b"IDAT") + 4] + bytes(9)))
        assert colors is not None
        assert colors.tolist() == [RED, *[-1] * 255]

    @pytest.mark.parametrize("body", [b"", b"ab", bytes(3 * 300)])
    def test_a_palette_of_an_odd_size_is_no_error(self, body: bytes) -> None:
        colors = value_colors(open_image(png_row(1, 8, 3, b"\0", chunk(b"PLTE", body))))
        assert colors is not None
        assert (colors >= 0).sum() == min(256, len(body) // 3)


class TestIndices:
    def test_a_palette_that_agrees_gives_its_indices(self) -> None:
        values, overruled = decode_indices(encode(indexed(LABELS, WHITE, GREEN, BLUE)), COLORS)
        np.testing.assert_array_equal(values, LABELS)
        assert not overruled
        assert values.flags.c_contiguous

    def test_colours_overrule_an_index_that_has_another_ones(self) -> None:
        swapped = np.array([0, 2, 1], np.uint8)[LABELS]
        values, overruled = decode_indices(encode(indexed(swapped, WHITE, BLUE, GREEN)), COLORS)
        np.testing.assert_array_equal(values, LABELS)
        assert overruled

    def test_an_index_beyond_the_classes_is_overruled_too(self) -> None:
        indices = np.array([[0, 5, 4]], np.uint8)
        values, overruled = decode_indices(encode(indexed(indices, *[WHITE] * 4, BLUE, GREEN)), COLORS)
        assert (values.tolist(), overruled) == ([[0, 1, 2]], True)

    def test_colours_that_do_not_explain_all_overrule_nothing(self) -> None:
        indices = np.array([[0, 5, 6]], np.uint8)
        values, overruled = decode_indices(encode(indexed(indices, *[WHITE] * 5, GREEN, RED)), COLORS)
        assert (values.tolist(), overruled) == ([[0, 5, 6]], False)

    def test_the_ignored_index_stays_that_in_the_colour_of_a_class(self) -> None:
        """As after converting a grey mask to a palette: 255 is white then, as BACKGROUND is."""
        labels = np.array([[0, 1, 2, 255]], np.uint8)
        values, overruled = decode_indices(encode(Image.fromarray(labels).convert("P")), COLORS)
        assert (values.tolist(), overruled) == ([[0, 1, 2, 255]], False)
        values, overruled = decode_indices(encode(indexed(labels, WHITE, BLUE, GREEN, *[WHITE] * 253)), COLORS)
        assert (values.tolist(), overruled) == ([[0, 2, 1, 255]], True)

    def test_entries_that_no_pixel_has_say_nothing(self) -> None:
        values, overruled = decode_indices(encode(indexed(LABELS, WHITE, GREEN, BLUE, BLUE, WHITE)), COLORS)
        np.testing.assert_array_equal(values, LABELS)
        assert not overruled

    def test_unknown_colours_contradict_nothing(self) -> None:
        indices = np.array([[0, 1, 2, 255]], np.uint8)
        values, overruled = decode_indices(encode(indexed(indices, WHITE, RED, *[0] * 254)), COLORS)
        assert (values.tolist(), overruled) == ([[0, 1, 2, 255]], False)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_without_a_palette_the_colours_count(self, mode: str) -> None:
        data = encode(painted(LABELS, WHITE, GREEN, BLUE).convert(mode))
        values, overruled = decode_indices(data, COLORS)
        np.testing.assert_array_equal(values, LABELS)
        assert not overruled

    def test_colours_may_all_be_ignored(self) -> None:
        values, _ = decode_indices(encode(painted(LABELS, RED, RED, RED)), {WHITE: 0, RED: IGNORED})
        assert (values == IGNORED).all()

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_grey_gives_the_stored_values(self, mode: str) -> None:
        data = encode(Image.fromarray(LABELS).convert(mode))
        values, _ = decode_indices(data, COLORS)
        np.testing.assert_array_equal(values, decode_mask(data))

    @pytest.mark.parametrize("colors", [(RED, 1, 2), (WHITE, GREEN, RED)])
    def test_colours_of_which_one_is_unknown_are_an_error(self, colors: tuple[int, int, int]) -> None:
        with pytest.raises(ImageError, match="colours: which one is which class"):
            decode_indices(encode(painted(LABELS, *colors)), COLORS)

    def test_equal_channels_are_values_though_one_is_the_colour_of_a_class(self) -> None:
        data = encode(Image.fromarray(LABELS).convert("RGB"))
        values, _ = decode_indices(data, {0: 7, WHITE: 1})
        np.testing.assert_array_equal(values, LABELS)


class TestNames:
    @pytest.mark.parametrize(("text", "color"), [("#2ca02c", GREEN), ("#2CA02C", GREEN), ("#000000", 0)])
    def test_text_to_colour_and_back(self, text: str, color: int) -> None:
        assert parse_color(text) == color
        assert color_name(color) == text.lower()

    @pytest.mark.parametrize(
        "text", ["", "2ca02c", "#2ca02", "#2ca02c0", "#2ca02c\n", "#-12345", "#\u0661\u0661\u0661111", "red"]
    )
    def test_other_texts_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a colour"):
            parse_color(text)
