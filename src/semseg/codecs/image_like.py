"""Images in the forms that callers have them in, as pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.codecs.conversion import decode_any
from semseg.codecs.images import pillow_errors, reduced_to_rgb
from semseg.errors import ImageError, one_line
from semseg.types import UInt8

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""An image: the path of a file, the file's bytes, a Pillow image, or RGB pixels, uint8 (H, W, 3), grey ones (H, W), or
with alpha (H, W, 4), which is ignored."""


def pixels_of(image: ImageLike, max_pixels: int) -> UInt8:
    """Return an image's pixels as stored, uint8 (H, W, 3), RGB. Files may be JPEG, PNG, TIFF, WebP or BMP.

    max_pixels: the largest file that is decoded. Raises ImageError, which names the file, for one that cannot be read
    or decoded, and for pixels of other types.
    """
    match image:
        case str() | os.PathLike():
            content = read_image(image)
            try:
                return decode_any(content, max_pixels)
            except ImageError as error:
                raise type(error)(f"{one_line(os.fspath(image))}: {error.message}", error.hint) from error
        case bytes() | bytearray() | memoryview():
            return decode_any(bytes(image), max_pixels)
        case Image.Image():
            return np.asarray(as_rgb(image))
        case np.ndarray():
            return np.asarray(as_rgb(Image.fromarray(checked_pixels(image))))
    raise unknown_type(image)


def read_image(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image's file. Raises ImageError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{one_line(os.fspath(path))} cannot be read: {reason}.", "Give an image's path.") from error


def checked_pixels(pixels: NDArray[Any]) -> UInt8:
    """Return pixels that Pillow takes: uint8 (H, W), (H, W, 3) or (H, W, 4). Raises ImageError for others."""
    if pixels.dtype != np.uint8:
        raise ImageError(f"The pixels are {pixels.dtype}, not uint8.", "Scale them to 0 to 255 and convert them.")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,), (4,)) or not pixels.size:
        raise ImageError(
            f"The array has the shape {pixels.shape}.", "Give (height, width, 3), or (height, width) if it is grey."
        )
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def checked_image(image: Image.Image) -> Image.Image:
    """Return an image, decoded. Raises ImageError for a damaged or empty one, and one whose range is not known."""
    if image.mode in ("F", "I"):
        raise ImageError(f"The image has mode {image.mode}, whose range is not known.", "Convert it to mode L or RGB.")
    if not all(image.size):
        raise ImageError(f"The image has {image.width} x {image.height} pixels.", "Give one that is not empty.")
    with pillow_errors():
        image.load()
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB. Raises ImageError as `checked_image` does."""
    checked = checked_image(image)
    with pillow_errors():
        return reduced_to_rgb(checked)


def unknown_type(image: object) -> ImageError:
    """Return the error for an object that is no image."""
    return ImageError(
        f"An image of type {type(image).__name__} is not known.", "Give a path, bytes, a Pillow image or an array."
    )
