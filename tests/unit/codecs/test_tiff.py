"""TIFF files of kinds that Pillow does not write, as programs for maps, microscopes and cameras save them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiff_files import DEFLATE, SEPARATE, Order, Tags, page, tiff

from semseg.codecs.conversion import decode_any, image_to_png, is_cut, mask_to_png, open_any
from semseg.codecs.exif import orientation
from semseg.codecs.images import decode_image
from semseg.codecs.masks import decode_mask
from semseg.errors import ImageError
from semseg.types import UInt8

RANDOM = np.random.default_rng(0)
IMAGE: UInt8 = RANDOM.integers(0, 256, (12, 16, 3), np.uint8)
DEEP: NDArray[np.uint16] = RANDOM.integers(0, 65536, (6, 8, 3), np.uint16)
MASK: UInt8 = RANDOM.integers(0, 4, (12, 16), np.uint8)
SMALLER, TRANSPARENCY, SMALLER_TRANSPARENCY = {254: 1}, {254: 4, 262: 4}, {254: 5, 262: 4}
SEVERAL = r"^The file has several images\. Save each of them as a file\.$"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tags", [{}, DEFLATE])
def test_of_an_image_with_smaller_copies_and_transparency_the_image_is_read(order: Order, tags: Tags) -> None:
    """As in a GeoTIFF with overviews."""
    copies = [page(IMAGE[::step, ::step], SMALLER) for step in (2, 4)]
    opaque = page(np.full((12, 16), 255, np.uint8), TRANSPARENCY)
    for pages in (
        [page(IMAGE, tags), *copies],
        [page(IMAGE, {254: 0}, tags), opaque, *copies, page(np.zeros((6, 8), np.uint8), SMALLER_TRANSPARENCY)],
        [*copies, page(IMAGE, tags)],
    ):
        data = tiff(*pages, order=order)
        assert (open_any(data).width, open_any(data).height) == (16, 12)
        assert (decode_any(data) == IMAGE).all()
        assert (decode_image(image_to_png(data)) == IMAGE).all()
    mask = tiff(page(MASK, tags), page(MASK[::2, ::2], SMALLER), order=order)
    assert (decode_mask(mask_to_png(mask)) == MASK).all()


def test_the_orientation_is_that_of_the_page_that_is_read() -> None:
    thumbnail = page(IMAGE[::2, ::2], SMALLER, {274: 6})
    assert orientation(image_to_png(tiff(thumbnail, page(IMAGE)))) == 1
    assert orientation(image_to_png(tiff(page(IMAGE, {274: 3}), thumbnail))) == 3


def test_a_file_of_one_page_is_read_whatever_that_is_called() -> None:
    assert (decode_any(tiff(page(IMAGE, SMALLER))) == IMAGE).all()


@pytest.mark.parametrize(
    "pages",
    [
        [page(IMAGE), page(IMAGE)],
        [page(IMAGE, {254: 2}), page(IMAGE, {254: 2}), page(IMAGE, SMALLER)],
        [page(IMAGE, SMALLER), page(IMAGE, SMALLER)],
        [page(IMAGE), *[page(IMAGE, SMALLER)] * 64],
    ],
    ids=["two", "of a document", "only copies", "too many"],
)
def test_several_images_are_refused(pages: list[tuple[NDArray[Any], Tags]]) -> None:
    for read in (open_any, mask_to_png):
        with pytest.raises(ImageError, match=SEVERAL):
            read(tiff(*pages))


def test_big_tiff_is_read_too() -> None:
    images = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::2, ::2])]
    for count in (1, 2):
        file = io.BytesIO()
        images[0].save(file, "TIFF", big_tiff=True, save_all=True, append_images=images[1:count])
        if count == 1:
            assert (decode_any(file.getvalue()) == IMAGE).all()
        else:
            with pytest.raises(ImageError, match=SEVERAL):
                open_any(file.getvalue())


def test_pages_that_are_cut_off_or_lead_back_are_no_endless_search() -> None:
    data = tiff(page(IMAGE), page(IMAGE[::2, ::2], SMALLER))
    with pytest.raises(ImageError, match="cannot be decoded"):
        open_any(data[:-20])
    (first,) = struct.unpack_from("<I", data, 4)
    back = data[:-4] + struct.pack("<I", first)
    assert (decode_any(back) == IMAGE).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tags", [{}, DEFLATE, DEFLATE | SEPARATE])
def test_colours_of_16_bits_are_cut_to_the_upper_8_in_an_image_and_refused_in_a_mask(order: Order, tags: Tags) -> None:
    data = tiff(page(DEEP, tags), order=order)
    assert (decode_any(data) == DEEP >> 8).all()
    assert (decode_image(image_to_png(data)) == DEEP >> 8).all()
    assert is_cut(data)
    with pytest.raises(ImageError, match=r"^The mask has mode RGB with 16 bits a channel\. Save masks as PNG"):
        mask_to_png(data)


def test_what_is_not_cut() -> None:
    assert not any(map(is_cut, (tiff(page(IMAGE)), tiff(page(DEEP[..., 0])), b"no image")))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(page(DEEP, SEPARATE)), "has colours of 16 bits in separate planes. Save each pixel's together"),
        (tiff(page(DEEP[..., 0], {262: 0})), "has 16 bits in which 0 is white. Save it so that 0 is black."),
        (tiff(page(IMAGE[..., 0], {258: 12})), "samples have 12 bits. Scale its values to 8 bits."),
        (tiff(page(IMAGE[..., 0], {339: 2})), "samples have a sign. Scale its values to 8 bits."),
    ],
    ids=["planes", "white", "12 bits", "sign"],
)
def test_samples_that_pillow_takes_for_others_are_refused(data: bytes, says: str) -> None:
    """It reads them without an error, and gives noise, a negative, or a black image."""
    with pytest.raises(ImageError) as refusal:
        decode_any(data)
    assert says in str(refusal.value)


@pytest.mark.parametrize("tag", [258, 259, 277, 339])
def test_tags_that_are_no_numbers_are_refused(tag: int) -> None:
    data = tiff(page(IMAGE[..., 0], {258: 8, 339: 1}))
    entry = struct.pack("<HH", tag, 3)
    assert data.count(entry) == 1
    spoilt = data.replace(entry, struct.pack("<HH", tag, 2))  # of type ASCII
    with pytest.raises(ImageError) as refusal:
        decode_any(spoilt)
    assert str(refusal.value).isprintable()


def test_signed_values_of_a_mask_are_kept() -> None:
    assert (decode_mask(mask_to_png(tiff(page(MASK, {339: 2})))) == MASK).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            tiff(page(IMAGE.astype(np.float32))),
            "3 for a pixel, with 32 bits, are of a kind that is not read. Save it as",
        ),
        (tiff(page(np.zeros((4, 4, 5), np.uint16))), "5 for a pixel, with 16 bits, are of a kind"),
        (tiff(page(np.zeros((4, 4, 12), np.uint8))), "12 for a pixel, with 8 bits, are of a kind"),
        (tiff(page(IMAGE, {259: 34887})), "compression, 34887, is not read. Save it with deflate or LZW."),
    ],
    ids=["float", "5 bands", "12 bands", "compression"],
)
def test_what_is_not_read_is_not_called_damaged(data: bytes, says: str, caplog: pytest.LogCaptureFixture) -> None:
    for read in (open_any, mask_to_png):
        with pytest.raises(ImageError) as refusal:
            read(data)
        assert says in str(refusal.value)
        assert "damaged" not in str(refusal.value)
    assert not caplog.messages  # of Pillow's


@pytest.mark.parametrize(("photometric", "mode"), [(6, "YCbCr"), (8, "LAB")])
def test_a_mode_that_is_not_read_is_named(photometric: int, mode: str) -> None:
    with pytest.raises(ImageError, match=rf"^The image has mode {mode}, which is not read\. Save it as RGB or grey\.$"):
        open_any(tiff(page(IMAGE, {262: photometric})))
