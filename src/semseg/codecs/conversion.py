"""Converts TIFF, WebP and BMP files to PNG, without loss beyond their own."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from semseg.codecs.images import MAX_PIXELS, pillow_errors
from semseg.errors import ImageError, TooLargeError

IMAGE_FORMATS = {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP", ".bmp": "BMP"}
"""Pillow's formats of images that can be converted, by suffix."""

MASK_FORMATS = {suffix: name for suffix, name in IMAGE_FORMATS.items() if name != "WEBP"}
"""Those of masks; WebP is left out, because most of its files have lost the exact values."""

_IMAGE_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
_MASK_MODES = ("1", "L", "P", "RGB", "I;16")


def image_to_png(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return an image as a PNG file of mode RGB; alpha is dropped. Raises ImageError, TooLargeError and OSError."""
    image = _decoded(path, IMAGE_FORMATS, max_pixels)
    if image.mode not in _IMAGE_MODES:
        raise ImageError(f"The image has mode {image.mode}, not 8 bits a sample.", "Scale its values to 8 bits.")
    with pillow_errors():
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def mask_to_png(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a mask as a PNG file with the same values and, if it has one, the same palette.

    Raises ImageError, TooLargeError and OSError.
    """
    image = _decoded(path, MASK_FORMATS, max_pixels)
    if image.mode not in _MASK_MODES:
        raise ImageError(f"The mask has mode {image.mode}.", "Save masks as PNG of one 8-bit channel.")
    with pillow_errors():
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _decoded(path: Path, formats: dict[str, str], max_pixels: int) -> Image.Image:
    """Decode the only image in a file, which must have one of the formats."""
    with path.open("rb") as file, pillow_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
        image = Image.open(file, formats=tuple(set(formats.values())))
        width, height = image.size
        if width * height > max_pixels:
            raise TooLargeError(
                f"The image has {width} x {height} pixels, more than the {max_pixels} allowed.",
                "Give a smaller image, or cut it into tiles.",
            )
        if (frames := getattr(image, "n_frames", 1)) != 1:
            raise ImageError(f"The file has {frames} images.", "Save each of them as a file.")
        image.load()
    return image
