"""Decodes PNG masks to one label per pixel, and encodes labels as PNG."""

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
"""The bit depths of grey below 8 bits."""

_SIXTEEN_BIT = {"RGB;16B": "16-bit RGB", "LA;16B": "16-bit LA", "RGBA;16B": "16-bit RGBA"}
_FORM = "PNG of one 8-bit channel: mode P (palette, recommended) or L (grey)."
_HINT = f"Save masks as {_FORM}"
_COLOUR_HINT = (
    "A label map of colours says it: --label-map FILE of train, evaluate, quantize and browse; `semseg check` suggests "
    f"one. Or save masks as {_FORM}"
)


def decode_mask(data: bytes, max_pixels: int = MAX_PIXELS, spread: Container[int] = ()) -> UInt8:
    """Decode the values stored in a PNG mask: uint8 (H, W), C-contiguous, orientation as stored.

    In a palette mask the index counts, not the colour. Grey of 1, 2 or 4 bits gives 0 to 1, 0 to 3 or 0 to 15; if
    `spread` contains that bit depth, these are spread over 0 to 255, as if the mask had been saved with 8 bits.
    Other modes are read if they provably hold one 8-bit value per pixel: 16-bit grey without a value above 255, colour
    with equal channels, constant alpha.

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
    """Encode class ids uint8 (H, W) as a PNG file of mode L with the same height and width.

    With colours for the 256 ids, uint8 (256, 3), it has mode P: the same ids, shown in these colours.

    zlib's strategy Z_RLE finds only runs of equal bytes: for masks it is as fast as level 1, twice as fast as level 6,
    and gives smaller files than both.
    """
    file = io.BytesIO()
    image = Image.fromarray(labels)
    if colours is not None:
        image.putpalette(colours.tobytes())
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def grey_bits(image: ImageFile) -> int | None:
    """Return the bit depth of an opened but not yet decoded mask if it is grey of 1, 2 or 4 bits, else None."""
    return _GREY_BITS.get(_raw_mode(image))


def grey_step(bits: int) -> int:
    """Return the factor that spreads the values of 1, 2 or 4 bits over 0 to 255: 255, 85 or 17."""
    return 255 // ((1 << bits) - 1)


def _raw_mode(image: ImageFile) -> str:
    """Pillow's name for the layout of samples in the file, such as ``L;4``."""
    return str(image.tile[0].args) if image.tile else image.mode


def _of_few_bits(samples: NDArray[Any], bits: int, spread: bool) -> UInt8:
    """Grey values as stored, or spread over 0 to 255. Pillow gives 1 bit as stored, 2 and 4 bits spread."""
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
        raise ImageError(f"The mask has mode {mode} and varying transparency.", _HINT)
    if mode in ("RGB", "RGBA") and (samples[..., :2] != samples[..., 1:3]).any():
        raise ImageError(f"The mask has mode {mode} and colours: which one is which class is unknown.", _COLOUR_HINT)
    return np.ascontiguousarray(samples[..., 0])
