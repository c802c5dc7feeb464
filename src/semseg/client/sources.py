"""Images in the forms that callers have them in, as the JPEG or PNG file that is sent."""

from __future__ import annotations

import io
import os
from functools import cached_property

import numpy as np
from PIL import Image

from semseg.codecs.image_like import ImageLike, as_rgb, checked_image, checked_pixels, read_image, unknown_type
from semseg.codecs.images import decode_image, open_image
from semseg.errors import ImageError, one_line
from semseg.types import UInt8

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
            return Source(read_image(image), one_line(os.fspath(image)))
        case bytes() | bytearray() | memoryview():
            return Source(bytes(image))
        case Image.Image():
            return Source(_png(checked_image(image) if image.mode in _PNG_MODES else as_rgb(image)))
        case np.ndarray():
            return Source(_png(Image.fromarray(checked_pixels(image))))
    raise unknown_type(image)


def png_source(pixels: UInt8) -> Source:
    """Return pixels, uint8 (H, W, 3), as a PNG file, without loss."""
    return Source(_png(Image.fromarray(pixels)))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
