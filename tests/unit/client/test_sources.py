from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.client.sources import load
from semseg.codecs.images import encode_image
from semseg.errors import ImageError
from semseg.types import UInt8


def jpeg(pixels: UInt8, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def test_files_are_sent_as_they_are(tmp_path: Path, image: UInt8) -> None:
    for data, content_type in ((encode_image(image), "image/png"), (jpeg(image), "image/jpeg")):
        (tmp_path / "image").write_bytes(data)
        for given in (tmp_path / "image", str(tmp_path / "image"), data, bytearray(data), memoryview(data)):
            source = load(given)
            assert source.data == data
            assert source.size == (11, 17)
            assert source.content_type == content_type
    np.testing.assert_array_equal(load(encode_image(image)).pixels, image)


def test_the_pixels_are_those_stored_whatever_exif_says(image: UInt8) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = load(jpeg(image, exif=exif))
    assert source.size == source.pixels.shape[:2] == (11, 17)


def test_arrays_are_sent_without_loss(image: UInt8) -> None:
    np.testing.assert_array_equal(load(image).pixels, image)
    np.testing.assert_array_equal(load(image[:, ::-1, ::-1]).pixels, image[:, ::-1, ::-1])
    grey = image[..., 0]
    for given in (grey, grey[..., None]):
        np.testing.assert_array_equal(load(given).pixels, np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(load(np.dstack([image, grey])).pixels, image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pillow_s_images_of_all_modes_are_read(image: UInt8, mode: str) -> None:
    given = Image.fromarray(image).convert(mode)
    np.testing.assert_array_equal(load(given).pixels, np.asarray(given.convert("RGB")))


def test_of_16_bits_the_upper_8_count(image: UInt8) -> None:
    given = Image.fromarray(image[..., 0].astype(np.uint16) * 256 + 200)
    np.testing.assert_array_equal(load(given).pixels, np.stack([image[..., 0]] * 3, axis=-1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((5, 5, 3)), "The pixels are float64, not uint8. Scale them to 0 to 255"),
        (np.ones((5, 5), bool), "The pixels are bool"),
        (np.ones((2, 5, 5, 3), np.uint8), "has the shape (2, 5, 5, 3)"),
        (np.ones((3, 5, 5), np.uint8), "has the shape (3, 5, 5)"),
        (np.ones((0, 5, 3), np.uint8), "has the shape (0, 5, 3)"),
        (Image.new("F", (3, 3)), "mode F"),
        (Image.new("I", (3, 3)), "mode I"),
        (Image.new("RGB", (0, 3)), "The image has 0 x 3 pixels."),
        (b"GIF89a", "the image: This is a GIF file, neither JPEG nor PNG."),
        (b"", "the image: The image is empty."),
        (7, "An image of type int is not known."),
        ("/nowhere/image.jpg", "/nowhere/image.jpg cannot be read: No such file or directory."),
        ("/dev", "/dev cannot be read: Is a directory."),
        ("a\0.png", r"'a\x00.png' cannot be read: embedded null byte."),
    ],
)
def test_what_is_no_image_is_an_error(given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=re.escape(message)):
        load(given)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<!doctype html>")
    with pytest.raises(ImageError, match=r"page\.jpg: This is an HTML page, neither JPEG nor PNG"):
        load(tmp_path / "page.jpg")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.jpg").write_text("text")
    with pytest.raises(ImageError, match=re.escape(r"a\nb.jpg': This is text")):
        load(tmp_path / "a\nb.jpg")


def test_a_pillow_image_whose_file_is_cut_short_is_an_error(image: UInt8) -> None:
    for mode, form in (("RGB", "PNG"), ("CMYK", "TIFF")):
        file = io.BytesIO()
        Image.fromarray(np.tile(image, (20, 20, 1))).convert(mode).save(file, form)
        half = io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2])
        with Image.open(half) as cut, pytest.raises(ImageError, match="cannot be decoded"):
            load(cut)
