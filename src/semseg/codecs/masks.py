"""Masks: PNG bytes to one label a pixel and back (R2, R25 to R29)."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from semseg.codecs.images import MAX_PIXELS, open_image, pillow_errors
from semseg.errors import ImageError
from semseg.types import UInt8

_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads these samples over 0 to 255
_SIXTEEN_BIT = {"RGB;16B": "16-bit RGB", "LA;16B": "16-bit LA", "RGBA;16B": "16-bit RGBA"}
_HINT = "Save masks as PNG of one 8-bit channel: mode P (palette, recommended) or L (grey)."


def decode_mask(data: bytes, max_pixels: int = MAX_PIXELS, spread: bool = False) -> UInt8:
    """The values stored in a PNG mask: uint8 (H, W), C-contiguous, orientation as stored.

    Of palettes the index counts, not the colour (R26, R27); 1-bit grey gives 0 and 1, 2- and 4-bit grey 0 to 3
    and 0 to 15, or, with `spread`, these spread over 0 to 255, as Pillow gives them. Other modes are read if they
    provably hold one 8-bit value a pixel: 16-bit grey without a value above 255, colour with equal channels, alpha
    that is the same everywhere.

    Raises ImageError, which names the mode, and TooLargeError before decoding.
    """
    image = open_image(data, max_pixels)
    if not isinstance(image, PngImageFile):
        raise ImageError(f"The mask is a {image.format} file, not PNG.", _HINT)
    raw_mode = _raw_mode(image)
    with pillow_errors():
        image.load()
        samples = np.asarray(image)
    if raw_mode in _SIXTEEN_BIT:  # Pillow has cut them to 8 bits
        raise ImageError(f"The mask has mode {_SIXTEEN_BIT[raw_mode]}.", _HINT)
    if raw_mode in _GREY_STEPS and not spread:
        return samples // np.uint8(_GREY_STEPS[raw_mode])
    return _one_channel(samples, image.mode)


def encode_mask(labels: UInt8, colours: UInt8 | None = None) -> bytes:
    """Class ids uint8 (H, W) as a PNG file of mode L and the same height and width (R2, R51).

    With colours for the 256 ids, uint8 (256, 3), it is of mode P: the same ids, shown in these colours.

    zlib at level 1 counts runs of equal bytes instead of searching: for masks as fast as level 1 is otherwise, twice as
    fast as level 6, and smaller than both.
    """
    file = io.BytesIO()
    image = Image.fromarray(labels)
    if colours is not None:
        image.putpalette(colours.tobytes())
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def _raw_mode(image: PngImageFile) -> str:
    """How samples lie in the file, in Pillow's words, such as ``L;4``."""
    return str(image.tile[0].args) if image.tile else image.mode


def _one_channel(samples: NDArray[Any], mode: str) -> UInt8:
    """Reduce (H, W) or (H, W, channels) to uint8 (H, W) without losing a value, or raise ImageError."""
    if mode in ("L", "P", "1"):
        return samples.astype(np.uint8, copy=False)
    if mode == "I;16":
        if samples.max() > 255:
            raise ImageError("The mask has mode I;16 (16-bit grey) and values above 255.", _HINT)
        return samples.astype(np.uint8)
    if mode in ("LA", "RGBA") and np.ptp(samples[..., -1]):
        raise ImageError(f"The mask has mode {mode} and transparency that varies.", _HINT)
    if mode in ("RGB", "RGBA") and (samples[..., :2] != samples[..., 1:3]).any():
        raise ImageError(f"The mask has mode {mode} and colours: which one is which class is unknown.", _HINT)
    return np.ascontiguousarray(samples[..., 0])
