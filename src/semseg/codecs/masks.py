"""Masks: PNG bytes to one label a pixel and back (R2, R25 to R29)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from semseg.codecs.images import MAX_PIXELS, open_image, pillow_errors
from semseg.errors import ImageError
from semseg.types import UInt8

_GREY_BITS = {"1": 1, "L;2": 2, "L;4": 4}
FEW_BITS = frozenset(_GREY_BITS.values())
"""How many bits a sample of grey has where it has fewer than 8."""

_SIXTEEN_BIT = {"RGB;16B": "16-bit RGB", "LA;16B": "16-bit LA", "RGBA;16B": "16-bit RGBA"}
_HINT = "Save masks as PNG of one 8-bit channel: mode P (palette, recommended) or L (grey)."


def decode_mask(data: bytes, max_pixels: int = MAX_PIXELS, spread: Container[int] = ()) -> UInt8:
    """The values stored in a PNG mask: uint8 (H, W), C-contiguous, orientation as stored.

    Of palettes the index counts, not the colour (R26, R27). Grey of 1, 2 or 4 bits gives 0 to 1, 0 to 3 or 0 to 15, or,
    where `spread` holds that number of bits, these spread over 0 to 255, as if the mask had been saved with 8 bits.
    Other modes are read if they provably hold one 8-bit value a pixel: 16-bit grey without a value above 255, colour
    with equal channels, alpha that is the same everywhere.

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
    if raw_mode in _GREY_BITS:
        bits = _GREY_BITS[raw_mode]
        return _of_few_bits(samples, bits, bits in spread)
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


def grey_bits(image: ImageFile) -> int | None:
    """The bits of a sample, 1, 2 or 4, where an opened mask that is not yet decoded is grey of so few; else None."""
    return _GREY_BITS.get(_raw_mode(image))


def grey_step(bits: int) -> int:
    """By what the values of grey of 1, 2 or 4 bits are multiplied to be spread over 0 to 255: 255, 85 or 17."""
    return 255 // ((1 << bits) - 1)


def _raw_mode(image: ImageFile) -> str:
    """How samples lie in the file, in Pillow's words, such as ``L;4``."""
    return str(image.tile[0].args) if image.tile else image.mode


def _of_few_bits(samples: NDArray[Any], bits: int, spread: bool) -> UInt8:
    """Grey as stored or spread over 0 to 255: of 1 bit Pillow does the former, of 2 and 4 the latter."""
    values = samples.astype(np.uint8, copy=False)
    if spread == (bits > 1):
        return values
    return values * np.uint8(255) if spread else values // np.uint8(grey_step(bits))


def _one_channel(samples: NDArray[Any], mode: str) -> UInt8:
    """Reduce (H, W) or (H, W, channels) to uint8 (H, W) without losing a value, or raise ImageError."""
    if mode in ("L", "P"):
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
