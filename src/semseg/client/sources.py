"""Images in the forms that callers have them in, as the JPEG or PNG file that is sent."""

from __future__ import annotations

import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.codecs.images import decode_image, open_image
from semseg.errors import ImageError
from semseg.types import UInt8

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""An image: the path of a JPEG or PNG file, the file's bytes, a Pillow image, or RGB pixels, uint8 (H, W, 3), grey
ones (H, W), or with alpha (H, W, 4), which is ignored."""

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_MOST_PIXELS = 10**9
"""More than a server allows, which knows its own limit."""


class Source:
    """An image as a file. data: a JPEG or PNG file; size: (height, width) of its pixels as stored; name: for errors."""

    def __init__(self, data: bytes, name: str = "the image") -> None:
        """Raises ImageError for other bytes, which it names. Only the header is read."""
        self.data = data
        self.name = name
        try:
            header = open_image(data, _MOST_PIXELS)
        except ImageError as error:
            raise type(error)(f"{name}: {error.message}", error.hint) from error
        self.size = header.height, header.width

    @cached_property
    def pixels(self) -> UInt8:
        """The pixels as the server sees them: uint8 (H, W, 3), RGB, EXIF orientation ignored. Raises ImageError."""
        return decode_image(self.data, _MOST_PIXELS)

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return "image/png" if self.data.startswith(b"\x89PNG") else "image/jpeg"


def load(image: ImageLike) -> Source:
    """Return an image as a file: files as they are, pixels as PNG, without loss.

    Raises ImageError for a file that cannot be read or is neither JPEG nor PNG, and for pixels of other types.
    """
    match image:
        case str() | os.PathLike():
            try:
                return Source(Path(image).read_bytes(), os.fspath(image))
            except OSError as error:
                raise ImageError(f"{image} cannot be read: {error.strerror}.", "Give an image's path.") from error
        case bytes() | bytearray() | memoryview():
            return Source(bytes(image))
        case Image.Image():
            return Source(_png(image if image.mode in _PNG_MODES else _as_rgb(image)))
        case np.ndarray():
            return Source(_png(Image.fromarray(_checked(image))))
    raise ImageError(
        f"An image of type {type(image).__name__} is not known.", "Give a path, bytes, a Pillow image or an array."
    )


def png_source(pixels: UInt8) -> Source:
    """Return pixels, uint8 (H, W, 3), as a PNG file, without loss."""
    return Source(_png(Image.fromarray(pixels)))


def _checked(pixels: NDArray[Any]) -> UInt8:
    if pixels.dtype != np.uint8:
        raise ImageError(f"The pixels are {pixels.dtype}, not uint8.", "Scale them to 0 to 255 and convert them.")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,), (4,)) or not pixels.size:
        raise ImageError(
            f"The array has the shape {pixels.shape}.", "Give (height, width, 3), or (height, width) if it is grey."
        )
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("F", "I"):
        raise ImageError(f"The image has mode {image.mode}, whose range is not known.", "Convert it to mode L or RGB.")
    return image.convert("RGB")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
