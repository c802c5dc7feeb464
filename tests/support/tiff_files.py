"""Writes TIFF files of several pages and any samples, tag by tag: Pillow writes few kinds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tags = Mapping[int, int | list[int]]
Order = Literal["<", ">"]

_SHORTS = frozenset((258, 259, 262, 277, 284, 338, 339))
DEFLATE, SEPARATE = {259: 8}, {284: 2}


def page(pixels: NDArray[Any], *tags: Tags) -> tuple[NDArray[Any], Tags]:
    """A page for `tiff`: samples (H, W) or (H, W, C), and tags by number, besides or in place of the usual ones."""
    return pixels, {number: value for some in tags for number, value in some.items()}


def tiff(*pages: tuple[NDArray[Any], Tags], order: Order = "<") -> bytes:
    """A TIFF file (TIFF 6.0) with a strip for each page, or for each of its planes; order: that of the bytes."""
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for pixels, given in pages:
        samples = pixels[..., None] if pixels.ndim == 2 else pixels
        height, width, channels = samples.shape
        planes = list(np.moveaxis(samples, 2, 0)) if given.get(284) == 2 else [samples]
        strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
        strips = [zlib.compress(strip) for strip in strips] if given.get(259) == 8 else strips
        places = [_append(file, strip) for strip in strips]
        tags: dict[int, int | list[int]] = {
            256: width,
            257: height,
            258: [8 * samples.itemsize] * channels,
            259: 1,
            262: 2 if channels == 3 else 1,
        }
        tags |= {273: places, 277: channels, 278: height, 279: [len(strip) for strip in strips], **given}
        entries = b"".join(_entry(file, order, number, tags[number]) for number in sorted(tags))
        start = _append(file, struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
        struct.pack_into(f"{order}I", file, link, start)
        link = len(file) - 4
    return bytes(file)


def _entry(file: bytearray, order: Order, number: int, value: int | list[int]) -> bytes:
    values = value if isinstance(value, list) else [value]
    kind, code = (3, "H") if number in _SHORTS else (4, "I")
    packed = struct.pack(f"{order}{len(values)}{code}", *values)
    if len(packed) > 4:
        packed = struct.pack(f"{order}I", _append(file, packed))
    return struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")


def _append(file: bytearray, data: bytes) -> int:
    """Append data, at an even place, which is returned."""
    file += bytes(len(file) % 2)
    file += data
    return len(file) - len(data)
