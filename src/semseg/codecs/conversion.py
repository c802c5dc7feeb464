"""Opens TIFF, WebP and BMP files as well as JPEG and PNG, and converts them to PNG: for a user's own files.

A file's content decides what it is, whatever its name. Pixels count as stored, as in JPEG and PNG files: alpha is
dropped and the orientation ignored.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from semseg.codecs.images import MAX_PIXELS, decode_whole, open_image, pillow_errors, require_pixels
from semseg.codecs.kinds import BMP, TIFF, WEBP, Kind, kind_of
from semseg.codecs.masks import grey_step
from semseg.codecs.tiff import StoredTiff
from semseg.errors import ImageError
from semseg.types import UInt8

_IMAGE_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B")
_MASK_MODES = ("1", "L", "P", "RGB", "I;16", "I;16B")
_DEEP_MODES = ("I", "F")
_SCALE = "Scale its values to 8 bits."
_AS_RGB = "Save it as RGB or grey."
_AS_MASK = "Save masks as PNG of one 8-bit channel."

_FILES: dict[Kind | None, type[ImageFile]] = {TIFF: StoredTiff, WEBP: WebPImageFile, BMP: BmpImageFile}


def decode_any(data: bytes, max_pixels: int = MAX_PIXELS) -> UInt8:
    """Decode a file that `open_any` opens: uint8 (H, W, 3), RGB, as `images.decode_image` does. Raises its errors."""
    return decode_whole(open_any(data, max_pixels))


def open_any(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Parse and check the header of a JPEG, PNG, TIFF, WebP or BMP file; no pixel is decoded.

    Raises ImageError, also for several images in a file (pages, an animation) and for samples that are neither integers
    of up to 8 bits nor grey of 16, and TooLargeError.
    """
    if kind_of(data) not in _FILES:
        return open_image(data, max_pixels)
    image = _opened(data, max_pixels)
    if image.mode not in _IMAGE_MODES:
        fault = ", not 8 bits a sample" if image.mode in _DEEP_MODES else ", which is not read"
        raise ImageError(f"The image has mode {image.mode}{fault}.", _SCALE if image.mode in _DEEP_MODES else _AS_RGB)
    if isinstance(image, StoredTiff) and image.unusual_samples:
        raise ImageError(f"The TIFF file's samples have {image.unusual_samples}.", _SCALE)
    return image


def is_cut(data: bytes) -> bool:
    """Whether a file is one of 16 bits of which `image_to_png` keeps the upper 8. Raises ImageError."""
    return kind_of(data) == TIFF and _is_cut(_opened(data, MAX_PIXELS))


def image_to_png(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return an image of another format as a PNG file of mode RGB, or I;16 if it is grey of 16 bits.

    Bytes of no format that is converted, JPEG and PNG above all, are returned as they are. Raises as `open_any` does.
    """
    if kind_of(data) not in _FILES:
        return data
    image = open_any(data, max_pixels)
    with pillow_errors():
        image.load()
        return _png(image if image.mode.startswith("I;16") else image.convert("RGB"), image.info)


def mask_to_png(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a TIFF or BMP mask as a PNG file with the same values and, if it has one, the same palette.

    Other bytes are returned as they are, WebP too, as most of its files have lost the exact values. Raises ImageError
    and TooLargeError.
    """
    if kind_of(data) not in (TIFF, BMP):
        return data
    image = _opened(data, max_pixels)
    if image.mode not in _MASK_MODES:
        raise ImageError(f"The mask has mode {image.mode}.", _AS_MASK)
    if _is_cut(image):
        raise ImageError(f"The mask has mode {image.mode} with 16 bits a channel.", _AS_MASK)
    layout = _layout(image)
    with pillow_errors():
        image.load()
        values: Image.Image = image
        if image.mode == "L" and layout.startswith(("L;2", "L;4")):  # Pillow spreads these values over 0 to 255
            values = Image.fromarray(np.asarray(image) // np.uint8(grey_step(int(layout[2]))))
        return _png(values, image.info)


def _opened(data: bytes, max_pixels: int) -> ImageFile:
    """The only image in a file of another format than JPEG and PNG, its header parsed.

    Pillow's plugins are called directly, as `images.open_image` does.
    """
    with pillow_errors():
        image = _FILES[kind_of(data)](io.BytesIO(data))
    require_pixels(image.size, max_pixels)
    if getattr(image, "is_animated", False):
        raise ImageError("The file has several images.", "Save each of them as a file.")
    return image


def _layout(image: ImageFile) -> str:
    """Pillow's name for the layout of samples in a file that is not yet decoded, such as ``L;4``; empty if unknown."""
    return next((str(tile.args[0]) for tile in image.tile if isinstance(tile.args, tuple)), "")


def _is_cut(image: ImageFile) -> bool:
    """Whether Pillow reads only the upper 8 of 16 bits, as it does with colours."""
    return ";16" in _layout(image) and not image.mode.startswith("I;16")


def _png(pixels: Image.Image, info: dict[Any, Any]) -> bytes:
    """A PNG file of the pixels with the Exif data in Pillow's `info` of the image that they are from."""
    if pixels.mode == "I;16B":
        pixels = Image.fromarray(np.asarray(pixels).astype(np.uint16))
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=1, exif=info.get("exif", b""))
    return file.getvalue()
