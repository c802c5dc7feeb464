"""One file of a data set to pixels: bounded in size, and every error names the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from semseg.codecs import images, masks
from semseg.errors import DataError, ImageError
from semseg.types import UInt8

MAX_FILE_BYTES = 512_000_000
"""More than `images.MAX_PIXELS` need in any format, uncompressed, at 8 bytes a pixel."""


def read_image(path: Path) -> Image.Image:
    """The picture in a JPEG or PNG file, decoded: mode RGB, orientation as stored. Raises DataError."""
    with _naming(path):
        return images.load_rgb(read_file(path))


def verify_image(path: Path) -> tuple[int, int]:
    """(height, width) of a picture that was read to its end. Raises DataError."""
    with _naming(path):
        return images.verify_image(read_file(path))


def read_mask(path: Path) -> UInt8:
    """The pixel values of a mask: uint8 (H, W). Raises DataError."""
    with _naming(path):
        return masks.decode_mask(read_file(path))


def require_same_size(image: Path, image_size: tuple[int, int], mask: Path, mask_size: tuple[int, int]) -> None:
    """Raise DataError unless the two sizes (height, width) are equal."""
    if image_size == mask_size:
        return
    hint = "A mask covers its picture pixel by pixel."
    if image_size == mask_size[::-1] and images.exif_swaps_sides(read_file(image)):
        hint = "The picture's EXIF orientation swaps its sides and is ignored here: store it turned, without the tag."
    (height, width), (mask_height, mask_width) = image_size, mask_size
    raise DataError(
        f"{printable(mask)} has {mask_width} x {mask_height} pixels, {printable(image)} {width} x {height}.", hint
    )


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file. Raises DataError if it cannot be read or is larger than `max_bytes`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= max_bytes:
                return file.read(size)
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}.") from error
    raise DataError(f"{printable(path)} has {size} bytes, more than the {max_bytes} allowed.")


def printable(path: Path) -> str:
    """``channel/file``, on one line."""
    return one_line(f"{path.parent.name}/{path.name}")


def one_line(text: str) -> str:
    """The text, escaped if it holds control characters, as file names may, which could forge log lines."""
    return text if text.isprintable() else ascii(text)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise DataError(f"{printable(path)}: {error.message}", error.hint) from error
