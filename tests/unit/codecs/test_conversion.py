from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from semseg.codecs.conversion import decode_any, image_to_png, mask_to_png, open_any
from semseg.codecs.exif import orientation as orientation_of
from semseg.codecs.images import decode_image
from semseg.codecs.masks import decode_mask
from semseg.errors import ImageError, TooLargeError
from semseg.types import UInt8

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
EXACT = {"WEBP": {"lossless": True, "exact": True}}


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def made(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    return saved(Image.fromarray(PIXELS).convert(mode), kind, **EXACT.get(kind, {}), **options)


def read(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def tags(**values: int) -> ImageFileDirectory_v2:
    """Tags of a TIFF file by their numbers, such as t274."""
    directory = ImageFileDirectory_v2()
    for name, value in values.items():
        directory[int(name[1:])] = value
    return directory


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate", "tile": (16, 16)}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "1", {}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "P", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("BMP", "L", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "L", {}),
    ],
)
def test_an_image_has_the_pixels_of_its_png_and_alpha_is_dropped(kind: str, mode: str, options: dict[str, Any]) -> None:
    data = made(kind, mode, **options)
    pixels = decode_any(data)
    assert pixels.tobytes() == read(data).convert("RGB").tobytes()
    assert (pixels == decode_image(image_to_png(data))).all()
    assert (open_any(data).width, open_any(data).height) == (8, 6)


def test_only_colours_count_where_a_pixel_is_transparent() -> None:
    data = saved(Image.fromarray(np.dstack([PIXELS, np.zeros((6, 8), np.uint8)])), "TIFF")
    assert (decode_any(data) == PIXELS).all()


@pytest.mark.parametrize(("kind", "mode"), [("TIFF", "L"), ("TIFF", "P"), ("TIFF", "1"), ("BMP", "L"), ("BMP", "P")])
def test_a_mask_keeps_its_values_and_its_palette(kind: str, mode: str) -> None:
    data = made(kind, mode)
    png = mask_to_png(data)
    assert (decode_mask(png) == np.asarray(read(data))).all()
    if mode == "P":
        assert read(png).convert("RGB").tobytes() == read(data).convert("RGB").tobytes()


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_is_that_of_a_png(order: str, compression: str) -> None:
    """Whole in a mask, the upper 8 bits of an image."""
    values = (np.arange(48).reshape(6, 8) * 5).astype(f"{order}u2")
    data = saved(Image.fromarray(values), "TIFF", compression=compression)
    assert (decode_mask(mask_to_png(data)) == values).all()
    values = (values * 250).astype(f"{order}u2")
    data = saved(Image.fromarray(values), "TIFF", compression=compression)
    expected: UInt8 = np.repeat((values >> 8)[..., None], 3, 2).astype(np.uint8)
    assert (decode_any(data) == expected).all()
    assert (decode_image(image_to_png(data)) == expected).all()
    assert read(image_to_png(data)).mode == "I;16"  # for the data check, which looks at the lower bits too


def grey_tiff(bits: int, packed: bytes, **more: int) -> bytes:
    """A TIFF file of 4 x 1 grey pixels, written tag by tag; more: tags by their numbers, such as t322."""
    entries = {256: 4, 257: 1, 258: bits, 259: 1, 262: 1, 273: 200, 277: 1, 278: 1, 279: len(packed)}
    entries |= {int(name[1:]): value for name, value in more.items()}
    head = b"II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
    for tag, value in sorted(entries.items()):
        head += tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
    return (head + bytes(4)).ljust(200, b"\0") + packed


@pytest.mark.parametrize(("bits", "packed"), [(2, b"\x1b"), (4, b"\x01\x23")])
def test_values_of_few_bits_count_as_stored(bits: int, packed: bytes) -> None:
    """A TIFF mask of grey has 0 to 3 or 0 to 15, as a PNG mask has; Pillow spreads them over 0 to 255."""
    assert decode_mask(mask_to_png(grey_tiff(bits, packed))).tolist() == [[0, 1, 2, 3]]


def test_tiles_are_no_larger_than_an_image_may_be() -> None:
    """A small file of few pixels could take gigabytes, as a whole tile is decoded."""
    tiles = {"t322": 40_000, "t323": 40_000, "t324": 200, "t325": 4}
    with pytest.raises(ImageError, match=r"^The TIFF file's tiles have 40000 x 40000 pixels, more than the 50000000"):
        open_any(grey_tiff(8, b"1234", t259=8, **tiles))
    assert (decode_any(grey_tiff(8, b"\0\1\2\3"))[0, :, 0] == range(4)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_pixels_stay_as_stored_whatever_the_orientation(compression: str, orientation: int) -> None:
    data = made("TIFF", compression=compression, tiffinfo=tags(t274=orientation))
    assert (open_any(data).width, open_any(data).height) == (8, 6)
    assert (decode_any(data) == PIXELS).all()
    mask = made("TIFF", "L", compression=compression, tiffinfo=tags(t274=orientation))
    assert (decode_mask(mask_to_png(mask)) == np.asarray(Image.fromarray(PIXELS).convert("L"))).all()
    exif = Image.Exif()
    exif[274] = orientation
    webp = made("WEBP", exif=exif)
    assert (decode_any(webp) == PIXELS).all()
    for png in (image_to_png(data), mask_to_png(mask), image_to_png(webp)):
        assert orientation_of(png) == orientation  # for the data check, which compares image and mask


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_several_images_in_a_file_are_refused(kind: str) -> None:
    page = Image.new("L", (4, 4))
    data = saved(page, kind, save_all=True, append_images=[Image.new("L", (4, 4), 9)] * 2)
    for convert in (image_to_png, open_any, *([mask_to_png] if kind == "TIFF" else [])):
        with pytest.raises(ImageError, match=r"^The file has several images\. Save each of them as a file\.$"):
            convert(data)


def test_what_would_lose_values_is_refused() -> None:
    for deep in (np.full((4, 4), 70_000, np.int32), np.full((4, 4), 0.5, np.float32)):
        data = saved(Image.fromarray(deep), "TIFF")
        with pytest.raises(ImageError, match=r"^The image has mode [IF], not 8 bits a sample\. "):
            open_any(data)
        with pytest.raises(ImageError, match=r"^The mask has mode [IF]\. "):
            mask_to_png(data)


def test_what_is_not_converted_is_returned_as_it_is() -> None:
    """Its reader says what is wrong with it, if anything is."""
    for data in (made("PNG"), made("JPEG"), b"no image", b"", saved(Image.new("L", (4, 4)), "GIF")):
        assert image_to_png(data) is data
        assert mask_to_png(data) is data
    assert mask_to_png(made("WEBP")) == made("WEBP")
    with pytest.raises(ImageError, match="This is a GIF file, neither JPEG nor PNG"):
        open_any(saved(Image.new("L", (4, 4)), "GIF"))


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP"])
def test_damaged_files_are_refused(kind: str) -> None:
    whole = saved(Image.fromarray(np.tile(PIXELS, (20, 20, 1))), kind, **EXACT.get(kind, {}))
    for size in (12, 20, 30, 60, len(whole) // 2, len(whole) - 400):
        with pytest.raises(ImageError):
            decode_any(whole[:size])


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP"])
def test_a_large_image_is_refused_before_it_is_decoded(kind: str) -> None:
    for convert in (image_to_png, open_any):
        with pytest.raises(TooLargeError, match="8 x 6 pixels, more than the 47 allowed"):
            convert(made(kind), max_pixels=47)


def test_headers_of_huge_images_are_refused() -> None:
    bmp = bytearray(made("BMP"))
    bmp[18:26] = (60_000).to_bytes(4, "little") * 2
    tiff = made("TIFF").replace(b"\0\x01\x04\0\x01\0\0\0\x08\0\0\0", b"\0\x01\x04\0\x01\0\0\0\0\0\0\x10")
    webp = bytearray(made("WEBP", icc_profile=b"profile"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = b"\xff" * 6
    for data, said in ((bmp, "60000 x 60000 pixels, more"), (tiff, "268435456 x 6 pixels, more"), (webp, "bomb")):
        with pytest.raises(ImageError, match=said):
            decode_any(bytes(data))
