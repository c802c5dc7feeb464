"""Decodes PNG masks that encode classes as colours into one value per pixel.

Colours are 0xRRGGBB and must match exactly. Alpha is dropped, as it is for images and in AWS's own correction of Ground
Truth masks: the stored colour counts, visible or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from semseg.codecs.images import MAX_PIXELS, has_16_bits, open_image, pillow_errors
from semseg.codecs.masks import decode_mask, grey_bits
from semseg.errors import ImageError
from semseg.types import IGNORED, UInt8

GREY = 0x010101
"""Multiplied by a level from 0 to 255, the colour of that grey."""

_PIXELS_AT_ONCE = 500_000
_HINT = "Save masks as PNG with 8 bits per channel."


def parse_color(text: str) -> int:
    """Parse ``#2ca02c`` as 0x2CA02C. Raises ValueError."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r:.40} is not a colour like '#2ca02c'.")
    return int(text[1:], 16)


def color_name(color: int) -> str:
    """Format 0x2CA02C as ``#2ca02c``."""
    return f"#{color:06x}"


def decode_colors(data: bytes, colors: Mapping[int, int], unlisted: int, max_pixels: int = MAX_PIXELS) -> UInt8:
    """Decode a PNG mask by colour: uint8 (H, W), the values 0 to 255 that `colors` maps its pixels' colours to.

    Any mode of up to 8 bits per channel is read: a palette by its colours, grey of 1, 2 and 4 bits scaled to 8 bits
    (#000000 to #ffffff). Colours that `colors` lacks get the value `unlisted`.
    Raises ImageError, and TooLargeError before decoding.
    """
    image = _open_mask(data, max_pixels)
    with pillow_errors():
        image.load()
    if image.mode == "P":
        values: UInt8 = _of_palette(image, colors, unlisted)[np.asarray(image)]
        return values
    return _look_up(_packed(image), colors, unlisted)


def decode_indices(
    data: bytes, colors: Mapping[int, int], max_pixels: int = MAX_PIXELS, spread: Container[int] = ()
) -> tuple[UInt8, bool]:
    """Decode a mask whose classes have colours as well; returns its values and whether colours overruled its indices.

    In a palette mask the index counts, unless the colours of all used indices are in `colors` and at least one maps to
    a value other than its index: then the colours count. The index `IGNORED` always stands for itself. In RGB and RGBA
    the colours count if `colors` has them all. Everything else is left to `decode_mask`, with `spread`.
    Raises ImageError, and TooLargeError before decoding.
    """
    image = _open_mask(data, max_pixels)
    if image.mode in ("P", "RGB", "RGBA"):
        with pillow_errors():
            image.load()
    if image.mode == "P":
        indices: UInt8 = np.asarray(image)
        by_color = _of_palette(image, colors, IGNORED)
        by_color[IGNORED] = IGNORED
        listed = np.isin(_palette(image), list(colors))
        used = np.array(image.histogram()) > 0
        used[IGNORED] = False
        if listed[used].all() and (by_color != np.arange(256))[used].any():
            return by_color[indices], True
        return indices, False
    if image.mode in ("RGB", "RGBA"):
        packed = _packed(image)
        if _look_up(packed, dict.fromkeys(colors, 1), 0).all():
            return _look_up(packed, colors, IGNORED), False
    return decode_mask(data, max_pixels, spread), False


def main_colors(data: bytes, limit: int = 20, listed: Collection[int] = ()) -> list[tuple[int, int]]:
    """Return the most frequent colours of a PNG mask that are not `listed`, at most `limit`, with their pixel counts.

    If there are more, counting stops early. Raises the errors of `decode_colors`.
    """
    image = _open_mask(data, MAX_PIXELS)
    with pillow_errors():
        image.load()
        packed = _packed(image)
    found: Counter[int] = Counter()
    rows, enough = max(1, _PIXELS_AT_ONCE // image.width), limit + len(listed) + 1
    for top in range(0, image.height, rows):
        counted = _counted(packed[top : top + rows], enough)
        found.update({color: pixels for color, pixels in counted if color not in listed})
        if len(found) > limit:
            break
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit]


def value_colors(image: ImageFile) -> NDArray[np.int64] | None:
    """Return the colours of the 256 values of an opened mask, without decoding it: int64 (256,), -1 for none.

    A palette's entries, or else greys. None for grey of 1, 2 and 4 bits, whose values may be read as stored or spread.
    """
    if image.mode == "P":
        entries = bytes(image.palette.palette) if image.palette else b""
        return _entries(np.frombuffer(entries[: len(entries) // 3 * 3], np.uint8))
    return None if grey_bits(image) else np.arange(256) * GREY


def _open_mask(data: bytes, max_pixels: int) -> PngImageFile:
    """Parse the header of a PNG file of up to 8 bits per channel."""
    image = open_image(data, max_pixels)
    if not isinstance(image, PngImageFile):
        raise ImageError(f"The mask is a {image.format} file, not PNG.", _HINT)
    if has_16_bits(image):
        raise ImageError("The mask has 16 bits per channel.", _HINT)
    return image


def _packed(image: Image.Image) -> NDArray[np.uint32]:
    """The colours of the pixels, 0xRRGGBB: uint32 (H, W)."""
    if image.mode != "RGBA":
        image = image.convert("RGB")
    pixels = np.frombuffer(image.tobytes("raw", "BGRA" if image.mode == "RGBA" else "BGRX"), "<u4")
    packed: NDArray[np.uint32] = pixels.reshape(image.height, image.width) & np.uint32(0xFFFFFF)
    return packed


def _look_up(packed: NDArray[np.uint32], colors: Mapping[int, int], unlisted: int) -> UInt8:
    """Map colours (H, W) to values. The table has all 2^24 colours, but untouched zeros take no memory."""
    table = np.zeros(1 << 24, np.uint8)
    table[list(colors)] = np.array(list(colors.values()), np.uint8) ^ np.uint8(unlisted)
    values: UInt8 = table[packed] ^ np.uint8(unlisted)
    return values


def _counted(packed: NDArray[np.uint32], limit: int) -> Iterator[tuple[int, int]]:
    """At most `limit` colours with pixel counts, the most frequent first. It sorts runs, of which a mask has few."""
    flat = packed.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    colors, positions = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(positions, np.diff(starts, append=flat.size)).astype(np.int64)
    order = np.argsort(-pixels, kind="stable")[:limit]
    return zip(colors[order].tolist(), pixels[order].tolist(), strict=True)


def _palette(image: Image.Image) -> NDArray[np.int64]:
    """The colours of the 256 indices: int64 (256,), -1 where the palette has none."""
    return _entries(np.array(image.getpalette("RGB") or []))


def _entries(samples: NDArray[Any]) -> NDArray[np.int64]:
    """The colours of samples R, G, B, R, ...: int64 (256,), -1 beyond the last."""
    channels = samples.astype(np.int64).reshape(-1, 3)[:256]
    colors = np.full(256, -1)
    colors[: len(channels)] = channels @ [1 << 16, 1 << 8, 1]
    return colors


def _of_palette(image: Image.Image, colors: Mapping[int, int], unlisted: int) -> UInt8:
    """The values that the colours of the 256 indices map to: uint8 (256,)."""
    return np.array([colors.get(int(color), unlisted) for color in _palette(image)], np.uint8)
