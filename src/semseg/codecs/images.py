"""Decodes JPEG and PNG files to RGB pixels as stored, and encodes them as PNG.

The EXIF orientation is ignored, for images and masks alike: a mask labels the stored pixels.
Pillow's plugins are called directly, because `Image.open` checks a size limit of its own before `max_pixels`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from semseg.codecs.exif import orientation
from semseg.codecs.kinds import not_jpeg_or_png
from semseg.codecs.segments import undecodable
from semseg.codecs.strict import StrictJpeg, StrictPng
from semseg.errors import ImageError, TooLargeError
from semseg.types import UInt8

MAX_PIXELS = 50_000_000

_FILES: dict[bytes, type[StrictJpeg | StrictPng]] = {
    b"\xff\xd8\xff": StrictJpeg,
    b"\x89PNG\r\n\x1a\n": StrictPng,
}
_SIDES_SWAPPED = range(5, 9)  # EXIF 2.3, tag Orientation: 5 to 8 are shown with rows as columns


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> UInt8:
    """Decode a JPEG or PNG file: uint8 (H, W, 3), RGB, C-contiguous, maybe read-only, orientation as stored.

    Any mode is read: grey is repeated, palettes are looked up, 16-bit samples are cut to their upper 8 bits, alpha is
    dropped (the colours stay as stored), an animation gives its first frame.

    Raises ImageError for anything but a complete JPEG or PNG file and, before decoding, TooLargeError for more than
    `max_pixels` pixels.
    """
    return decode_whole(open_image(data, max_pixels))


def decode_whole(image: ImageFile.ImageFile) -> UInt8:
    """Decode an image from `open_image`: uint8 (H, W, 3), RGB, as `decode_image` does. Raises ImageError.

    simplejpeg decodes a JPEG to the same pixels in a third to a half of Pillow's time.
    """
    return decode_reduced(image, image.size)[0]


def to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image from `open_image` to Pillow's mode RGB. Raises ImageError."""
    with pillow_errors():
        image.load()
        return reduced_to_rgb(image)


def decode_reduced(image: ImageFile.ImageFile, least: tuple[int, int]) -> tuple[UInt8, tuple[float, float]]:
    """Decode an image from `open_image`, smaller if that is cheaper: uint8 (H, W, 3), RGB. Raises ImageError.

    A JPEG, unless it is CMYK, is decoded at 1/2, 1/4 or 1/8 of its width and height, the smallest that is at least
    `least` (width, height). Returns the pixels and the exact width and height, which are fractional where the last
    column or row is only partly covered. Without simplejpeg the size is not reduced.
    """
    width, height = image.size
    if not isinstance(image, StrictJpeg):
        return np.asarray(to_rgb(image)), (width, height)
    factors = (8, 4, 2) if image.mode in ("L", "RGB") else ()
    fitting = (factor for factor in factors if width >= factor * least[0] and height >= factor * least[1])
    with pillow_errors():
        pixels, factor = image.decode(next(fitting, 1))
    return pixels, (width / factor, height / factor)


def encode_image(pixels: UInt8) -> bytes:
    """Encode pixels uint8 (H, W, 3), RGB, as a PNG file, for speed rather than size."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def verify_image(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Check that an image decodes, as cheaply as possible; returns (height, width). Raises as `decode_image` does."""
    return verify_whole(open_image(data, max_pixels))


def verify_whole(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Check that an image from `open_image` decodes; returns (height, width). Raises ImageError.

    A JPEG is decoded at an eighth of its size, which reads all its coded data but computes few pixels.
    """
    width, height = image.size
    with pillow_errors():
        if isinstance(image, StrictJpeg):
            image.decode(8)
        else:
            image.load()
    return height, width


def has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Return whether the samples of an image from `open_image`, not yet decoded, have 16 bits."""
    return image.mode == "I;16" or (bool(image.tile) and str(image.tile[0].args).endswith(";16B"))


def upper_bytes(image: ImageFile.ImageFile) -> NDArray[np.int64]:
    """Return the histogram of the upper 8 bits of a decoded 16-bit image's samples: int64 (256,), without alpha."""
    if image.mode == "I;16":
        return np.bincount((np.asarray(image) >> 8).ravel(), minlength=256)
    colours: NDArray[np.int64] = np.array(image.histogram()[: 3 * 256]).reshape(3, 256).sum(axis=0)
    return colours


def exif_swaps_sides(data: bytes) -> bool:
    """Return whether viewers that apply EXIF show this JPEG or PNG file with width and height swapped."""
    return orientation(data) in _SIDES_SWAPPED


def exif_rotates_differently(data: bytes, other: bytes, size: tuple[int, int]) -> bool:
    """Return whether EXIF turns two JPEG or PNG files of the same `size` differently, yet leaves their sizes equal."""
    one, two = orientation(data), orientation(other)
    return one != two and (size[0] == size[1] or (one in _SIDES_SWAPPED) == (two in _SIDES_SWAPPED))


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Parse and check the header of a JPEG or PNG file; no pixel is decoded.

    Raises ImageError and TooLargeError.
    """
    opened = next((kind for magic, kind in _FILES.items() if data.startswith(magic)), None)
    if opened is None:
        raise not_jpeg_or_png(data)
    with pillow_errors():
        image = opened(data)
    require_pixels(image.size, max_pixels)
    return image


def require_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raise TooLargeError for an image of more than `max_pixels` pixels; size: (width, height)."""
    width, height = size
    if width * height > max_pixels:
        raise TooLargeError(
            f"The image has {width} x {height} pixels, more than the {max_pixels} allowed.",
            "Give a smaller image, or cut it into tiles.",
        )


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turn any error of Pillow's parsers into ImageError, truncated files included.

    Importing GluonCV makes Pillow pad truncated files with grey in the whole process; that is switched off here.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except (MemoryError, ImageError):
        raise
    except Exception as error:
        raise undecodable(error) from error


def reduced_to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image in mode RGB; 16-bit samples are cut to their upper 8 bits."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):  # convert() would clip at 255; Pillow cuts 16-bit colour to 8 bits as well
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
