"""Masks whose classes are told by colour: PNG bytes to one value a pixel.

Colours are 0xRRGGBB, exact. Transparency never counts, as in pictures: a pixel has the colour that is stored, be it
shown or not. (AWS's own correction of Ground Truth masks drops alpha likewise, algorithm.md section 4.)
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
"""Times a level from 0 to 255: the colour of that grey."""

_COUNTED_PIXELS = 500_000  # at a time
_HINT = "Save masks as PNG of 8 bits a channel."


def parse_color(text: str) -> int:
    """``#2ca02c`` as 0x2CA02C. Raises ValueError."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r:.40} is not a colour like '#2ca02c'.")
    return int(text[1:], 16)


def color_name(color: int) -> str:
    """0x2CA02C as ``#2ca02c``."""
    return f"#{color:06x}"


def decode_colors(data: bytes, colors: Mapping[int, int], unlisted: int, max_pixels: int = MAX_PIXELS) -> UInt8:
    """The values that `colors` (colour: value 0 to 255) gives to the pixels of a PNG mask: uint8 (H, W).

    Any mode of up to 8 bits a channel is read, palettes by their colours, grey of 1, 2 and 4 bits as if it had 8:
    from #000000 to #ffffff. Other colours get the value `unlisted`.
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
    """The values of a mask whose classes have colours as well, and whether its palette was overruled by them.

    Of a palette the index counts, unless a pixel has an index whose colour is that of another value, and the colours
    of all indices that pixels have are listed: then the values are those of the colours. The index `IGNORED` always
    means that, whatever colour it has. Of RGB and RGBA the colours count if all are listed. All else is up to
    `decode_mask`, which is given `spread`.
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
    """The colours of a PNG mask that are not `listed`, with their pixels, the most frequent first, at most `limit`.

    Where there are more of them the pixels are not counted to the end. Raises as `decode_colors`.
    """
    image = _open_mask(data, MAX_PIXELS)
    with pillow_errors():
        image.load()
        packed = _packed(image)
    found: Counter[int] = Counter()
    rows, most = max(1, _COUNTED_PIXELS // image.width), limit + len(listed) + 1
    for top in range(0, image.height, rows):
        counted = _counted(packed[top : top + rows], most)
        found.update({color: pixels for color, pixels in counted if color not in listed})
        if len(found) > limit:
            break
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit]


def value_colors(image: ImageFile) -> NDArray[np.int64] | None:
    """The colours of the 256 values of an opened mask, no pixel decoded: int64 (256,), -1 for none.

    Those of a palette are its entries, all others greys. None for grey of 1, 2 and 4 bits, whose values may be read as
    they are stored or spread.
    """
    if image.mode == "P":
        entries = bytes(image.palette.palette) if image.palette else b""
        return _entries(np.frombuffer(entries[: len(entries) // 3 * 3], np.uint8))
    return None if grey_bits(image) else np.arange(256) * GREY


def _open_mask(data: bytes, max_pixels: int) -> PngImageFile:
    """The header of a PNG file of up to 8 bits a channel."""
    image = open_image(data, max_pixels)
    if not isinstance(image, PngImageFile):
        raise ImageError(f"The mask is a {image.format} file, not PNG.", _HINT)
    if has_16_bits(image):
        raise ImageError("The mask has 16 bits a channel.", _HINT)
    return image


def _packed(image: Image.Image) -> NDArray[np.uint32]:
    """The colours of the pixels: (H, W)."""
    if image.mode != "RGBA":
        image = image.convert("RGB")
    pixels = np.frombuffer(image.tobytes("raw", "BGRA" if image.mode == "RGBA" else "BGRX"), "<u4")
    packed: NDArray[np.uint32] = pixels.reshape(image.height, image.width) & np.uint32(0xFFFFFF)
    return packed


def _look_up(packed: NDArray[np.uint32], colors: Mapping[int, int], unlisted: int) -> UInt8:
    """Colours (H, W) to values. The table has all 2^24 colours, but zeros take no memory before they are read."""
    table = np.zeros(1 << 24, np.uint8)
    table[list(colors)] = np.array(list(colors.values()), np.uint8) ^ np.uint8(unlisted)
    values: UInt8 = table[packed] ^ np.uint8(unlisted)
    return values


def _counted(packed: NDArray[np.uint32], most: int) -> Iterator[tuple[int, int]]:
    """At most so many colours of some rows, the most frequent, with their pixels. Masks have few runs to be sorted."""
    flat = packed.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    colors, places = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(places, np.diff(starts, append=flat.size)).astype(np.int64)
    order = np.argsort(-pixels, kind="stable")[:most]
    return zip(colors[order].tolist(), pixels[order].tolist(), strict=True)


def _palette(image: Image.Image) -> NDArray[np.int64]:
    """The colours of the 256 indices: int64 (256,), -1 where the palette has none."""
    return _entries(np.array(image.getpalette("RGB") or []))


def _entries(samples: NDArray[Any]) -> NDArray[np.int64]:
    """Colours from R, G, B, R, ...: int64 (256,), -1 beyond the last."""
    channels = samples.astype(np.int64).reshape(-1, 3)[:256]
    colors = np.full(256, -1)
    colors[: len(channels)] = channels @ [1 << 16, 1 << 8, 1]
    return colors


def _of_palette(image: Image.Image, colors: Mapping[int, int], unlisted: int) -> UInt8:
    """The values of the 256 indices: (256,)."""
    return np.array([colors.get(int(color), unlisted) for color in _palette(image)], np.uint8)
