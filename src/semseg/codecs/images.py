"""Pictures: JPEG or PNG bytes to RGB pixels, on the pixel grid they are stored on, and back to PNG.

The EXIF orientation is ignored, for pictures and masks alike: a mask lies on the stored pixels.
Pillow's plugins are called directly. `Image.open` would try its own limit on the size before ours.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from semseg.codecs.exif import orientation
from semseg.codecs.image_parts import undecodable
from semseg.codecs.kinds import foreign
from semseg.codecs.whole import WholeJpeg, WholePng
from semseg.errors import ImageError, TooLargeError
from semseg.types import UInt8

MAX_PIXELS = 50_000_000

_FILES: dict[bytes, type[WholeJpeg | WholePng]] = {
    b"\xff\xd8\xff": WholeJpeg,
    b"\x89PNG\r\n\x1a\n": WholePng,
}
_SIDES_SWAPPED = range(5, 9)  # EXIF 2.3, tag Orientation: 5 to 8 are shown with rows as columns


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> UInt8:
    """The pixels of a JPEG or PNG file: uint8 (H, W, 3), RGB, C-contiguous, maybe read-only, orientation as stored.

    Any mode is read: grey is repeated, palettes are looked up, of 16 bits the upper 8 count, alpha is dropped
    (the colours stay as stored), an animation gives its first frame.

    Raises ImageError for anything but a whole JPEG or PNG file and TooLargeError, before decoding, for more
    than `max_pixels` pixels.
    """
    return decode_whole(open_image(data, max_pixels))


def decode_whole(image: ImageFile.ImageFile) -> UInt8:
    """Decode a picture of `open_image`: uint8 (H, W, 3), RGB, as `decode_image`. Raises ImageError.

    JPEG takes simplejpeg a third to a half of the time that Pillow needs for the same pixels.
    """
    return decode_reduced(image, image.size)[0]


def to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Decode a picture of `open_image`: mode RGB. Raises ImageError."""
    with pillow_errors():
        image.load()
        return _as_rgb(image)


def decode_reduced(image: ImageFile.ImageFile, least: tuple[int, int]) -> tuple[UInt8, tuple[float, float]]:
    """Decode a picture of `open_image` as a smaller one, if that is cheaper: uint8 (H, W, 3), RGB. Raises ImageError.

    A JPEG, unless it is CMYK, is made at 1/2, 1/4 or 1/8 of its width and height, the smallest that is not below
    `least` (width, height). Gives the pixels with the exact width and height; the last column and row may be pixels
    in part. Without simplejpeg nothing is made smaller.
    """
    width, height = image.size
    if not isinstance(image, WholeJpeg):
        return np.asarray(to_rgb(image)), (width, height)
    factors = (8, 4, 2) if image.mode in ("L", "RGB") else ()
    fitting = (factor for factor in factors if width >= factor * least[0] and height >= factor * least[1])
    with pillow_errors():
        pixels, factor = image.decode(next(fitting, 1))
    return pixels, (width / factor, height / factor)


def encode_picture(picture: UInt8) -> bytes:
    """Pixels uint8 (H, W, 3), RGB, as a PNG file, made quickly rather than small."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def verify_image(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read a picture to its end as cheaply as that can be done; gives (height, width). Raises as `decode_image`."""
    return verify_whole(open_image(data, max_pixels))


def verify_whole(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Read a picture of `open_image` to its end; gives (height, width). Raises ImageError.

    A JPEG is reduced to an eighth while decoding: all its coded data is read, but few pixels are made.
    """
    width, height = image.size
    with pillow_errors():
        if isinstance(image, WholeJpeg):
            image.decode(8)
        else:
            image.load()
    return height, width


def has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Whether the samples of an opened image that is not yet decoded have 16 bits, of which the upper 8 count."""
    return image.mode == "I;16" or (bool(image.tile) and str(image.tile[0].args).endswith(";16B"))


def upper_bytes(image: ImageFile.ImageFile) -> NDArray[np.int64]:
    """How many samples of a decoded image of 16 bits have each value of their upper 8: int64 (256,), alpha left out."""
    if image.mode == "I;16":
        return np.bincount((np.asarray(image) >> 8).ravel(), minlength=256)
    colours: NDArray[np.int64] = np.array(image.histogram()[: 3 * 256]).reshape(3, 256).sum(axis=0)
    return colours


def exif_swaps_sides(data: bytes) -> bool:
    """Whether viewers that heed EXIF show this JPEG or PNG with width and height exchanged."""
    return orientation(data) in _SIDES_SWAPPED


def exif_turns_apart(data: bytes, other: bytes, size: tuple[int, int]) -> bool:
    """Whether viewers that heed EXIF turn two JPEG or PNG files of one size so that they differ, but not in size."""
    one, two = orientation(data), orientation(other)
    return one != two and (size[0] == size[1] or (one in _SIDES_SWAPPED) == (two in _SIDES_SWAPPED))


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Parse the header of a JPEG or PNG file and check what it declares; no pixel is decoded.

    Raises ImageError and TooLargeError.
    """
    opened = next((kind for magic, kind in _FILES.items() if data.startswith(magic)), None)
    if opened is None:
        raise foreign(data)
    with pillow_errors():
        image = opened(data)
    width, height = image.size
    if width * height > max_pixels:
        raise TooLargeError(
            f"The picture has {width} x {height} pixels, more than the {max_pixels} allowed.",
            "Give a smaller picture, or cut it into tiles.",
        )
    return image


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turn whatever Pillow's parsers stumble over into ImageError, cut files included.

    Importing GluonCV makes Pillow pad cut files with grey, in the whole process: it is told not to each time.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except (MemoryError, ImageError):
        raise
    except Exception as error:
        raise undecodable(error) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I;16":  # convert() would clip at 255; colour of 16 bits is cut to its upper 8 as well
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
