from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from png_chunks import chunk, png_row

from semseg.codecs.masks import decode_mask, encode_mask
from semseg.errors import ImageError, TooLargeError
from semseg.types import UInt8

LABELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette_image(labels: UInt8) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    assert image.mode == "P"
    return image


@pytest.mark.req("R25", "R26", "R29")
def test_grey_values_are_the_labels() -> None:
    mask = decode_mask(encode(Image.fromarray(LABELS)))
    np.testing.assert_array_equal(mask, LABELS)
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous


@pytest.mark.req("R26", "R27", "R29")
@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": bytes(range(9))}])
def test_palette_indices_are_the_labels_whatever_the_colours(options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(decode_mask(encode(palette_image(LABELS), **options)), LABELS)


@pytest.mark.req("R16")
def test_uncompressed_png() -> None:
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(LABELS), compress_level=0)), LABELS)


def test_transparent_grey_changes_nothing() -> None:
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(LABELS), transparency=5)), LABELS)


def test_one_bit_is_zero_and_one() -> None:
    labels = LABELS % 2
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(labels.astype(bool)))), labels)


@pytest.mark.parametrize("colour", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_give_the_stored_samples(depth: int, colour: int) -> None:
    samples: UInt8 = (np.arange(16) % (1 << depth)).astype(np.uint8)
    bits = np.unpackbits(samples[:, None], axis=1)[:, 8 - depth :]
    palette = [chunk(b"PLTE", bytes(range(3 << depth)))] if colour == 3 else []
    np.testing.assert_array_equal(
        decode_mask(png_row(16, depth, colour, np.packbits(bits).tobytes(), *palette))[0], samples
    )


@pytest.mark.req("R26")
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_what_the_mask_is_in_8_bits_if_asked_for(depth: int) -> None:
    samples: UInt8 = (np.arange(16) % (1 << depth)).astype(np.uint8)
    data = png_row(16, depth, 0, np.packbits(np.unpackbits(samples[:, None], axis=1)[:, 8 - depth :]).tobytes())
    mask = decode_mask(data, spread={depth})
    np.testing.assert_array_equal(mask, np.asarray(Image.open(io.BytesIO(data)).convert("L")))
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous
    np.testing.assert_array_equal(decode_mask(data, spread={1, 2, 4} - {depth})[0], samples)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_equal_channels_prove_a_label(mode: str) -> None:
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(LABELS).convert(mode))), LABELS)


def test_sixteen_bit_grey_of_small_values_proves_a_label() -> None:
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(LABELS.astype(np.uint16)))), LABELS)


@pytest.mark.req("R26")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_refused_with_their_mode(mode: str) -> None:
    with pytest.raises(ImageError, match=rf"mode {mode} and colours") as raised:
        decode_mask(encode(palette_image(LABELS).convert(mode)))
    assert "mode P" in raised.value.hint


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_varying_transparency_is_refused_with_its_mode(mode: str) -> None:
    image = Image.fromarray(LABELS).convert(mode)
    image.putalpha(Image.fromarray(LABELS))
    with pytest.raises(ImageError, match=f"mode {mode} and varying transparency"):
        decode_mask(encode(image))


def test_sixteen_bit_grey_of_large_values_is_refused() -> None:
    with pytest.raises(ImageError, match="16-bit grey"):
        decode_mask(encode(Image.fromarray(LABELS.astype(np.uint16) + 1)))


@pytest.mark.parametrize(("colour", "samples", "name"), [(2, 3, "RGB"), (4, 2, "LA"), (6, 4, "RGBA")])
def test_sixteen_bit_colour_is_refused(colour: int, samples: int, name: str) -> None:
    with pytest.raises(ImageError, match=f"mode 16-bit {name}"):
        decode_mask(png_row(1, 16, colour, b"\0\x01" * samples))


def test_jpeg_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match="JPEG file, not PNG"):
        decode_mask(encode(Image.fromarray(LABELS), "JPEG"))


@pytest.mark.parametrize("data", [b"", b"GIF89a", encode(Image.fromarray(LABELS))[:-40]])
def test_damaged_masks_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_mask(data)


def test_large_masks_are_refused() -> None:
    with pytest.raises(TooLargeError):
        decode_mask(encode(Image.fromarray(LABELS)), max_pixels=LABELS.size - 1)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(LABELS), Image.fromarray(LABELS[::-1].copy())]
    np.testing.assert_array_equal(decode_mask(encode(frames[0], save_all=True, append_images=frames[1:])), LABELS)


@pytest.mark.req("R2")
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255)))
def test_a_mask_survives_the_round_trip_as_grey_png(labels: UInt8) -> None:
    data = encode_mask(labels)
    np.testing.assert_array_equal(decode_mask(data), labels)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("PNG", "L")


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_with_colours_a_mask_has_the_same_ids_in_a_palette(labels: UInt8) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    data = encode_mask(labels, colours)
    mask = Image.open(io.BytesIO(data))
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.array(mask), labels)
    np.testing.assert_array_equal(np.array(mask.convert("RGB")), colours[labels])
    np.testing.assert_array_equal(decode_mask(data), labels)
