"""Makes requests and responses fit a limit of bytes: smaller images, or tiles, and one answer from theirs.

Each pixel is answered by the tile in which it is furthest from an edge, because the network sees the least context
there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from math import isqrt, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.client.answers import Answer
from semseg.client.sources import Source
from semseg.errors import TooLargeError
from semseg.types import UInt8

_QUALITIES = (95, 90, 80)
"""JPEG qualities that are tried on the whole image before it is scaled down."""

_LONGEST_JPEG_SIDE = 65_500
_OVERLAP = 128
"""Pixels that neighbouring tiles share, a quarter of smaller tiles; as many as the server's own tiles."""

_SMALLEST_SIDE, _TINY = 32, 8
"""The least side of a tile, and of an image that was scaled down."""

_BYTES_PER_PIXEL, _ENVELOPE = 4, 4096
"""Upper bounds for a PNG file of RGB, a byte for each row included."""


class Tile(NamedTuple):
    """A part of an image: its rows and columns, and those of the image that it answers."""

    rows: slice
    columns: slice
    answered: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """What the tile answers, counted from its own first row and column."""
        whole = (self.rows, self.columns)
        return (
            slice(self.answered[0].start - whole[0].start, self.answered[0].stop - whole[0].start),
            slice(self.answered[1].start - whole[1].start, self.answered[1].stop - whole[1].start),
        )


def shrunk(source: Source, limit: int) -> Source:
    """Return the image as a JPEG file of at most `limit` bytes, of its own size if possible, else scaled down.

    Raises TooLargeError if even a few pixels do not fit.
    """
    image = Image.fromarray(source.pixels)
    factor = min(1.0, _LONGEST_JPEG_SIDE / max(image.size))
    data = b""
    for quality in _QUALITIES if factor == 1 else ():
        data = _jpeg(image, quality)
        if len(data) <= limit:
            return Source(data, source.name)
    while True:
        factor *= min(0.9, sqrt(0.9 * limit / len(data))) if data else 1
        size = [max(1, round(factor * side)) for side in image.size]
        data = _jpeg(image.resize((size[0], size[1]), Image.Resampling.LANCZOS), _QUALITIES[1])
        if len(data) <= limit:
            return Source(data, source.name)
        if max(size) <= _TINY:
            raise TooLargeError(f"{source.name} does not fit into {limit:,} bytes.", "Set a higher max_request.")


def tile_pixels(max_request: int | None, max_response: int | None, bytes_per_pixel: int) -> int | None:
    """Return the most pixels of a tile, sent as PNG, given the limits in bytes; None if there are none."""
    limits = []
    if max_request is not None:
        limits.append((max_request - _ENVELOPE) // _BYTES_PER_PIXEL)
    if max_response is not None and bytes_per_pixel:
        limits.append((max_response - _ENVELOPE) // bytes_per_pixel)
    return min(limits, default=None)


def tiles(height: int, width: int, max_pixels: int) -> list[Tile]:
    """Return overlapping tiles of at most `max_pixels`, as square as possible, that answer each pixel once.

    Raises TooLargeError for tiles of less than 32 x 32 pixels.
    """
    side = isqrt(max(0, max_pixels))
    if side < _SMALLEST_SIDE:
        raise TooLargeError(
            f"Only tiles of {max_pixels:,} pixels would fit.", "Ask for a smaller response, such as image/png."
        )
    tall = min(height, max(side, max_pixels // width))
    wide = min(width, max_pixels // tall)
    return [
        Tile(rows, columns, (answered_rows, answered_columns))
        for (rows, answered_rows), (columns, answered_columns) in product(_spans(height, tall), _spans(width, wide))
    ]


def stretched(answer: Answer, size: tuple[int, int]) -> Answer:
    """Return an answer for an image that was scaled down, scaled up to (height, width)."""
    return Answer(
        size,
        _each(answer.mask, size, Image.Resampling.NEAREST),
        _each(answer.probabilities, size, Image.Resampling.BILINEAR),
        _each(answer.confidence, size, Image.Resampling.BILINEAR),
        colours=answer.colours,
    )


def joined(source: Source, parts: Sequence[Tile], answer: Callable[[UInt8], Answer]) -> Answer:
    """Return the answer for an image, from those that `answer` gives for the pixels of its tiles."""
    whole: dict[str, NDArray[Any]] = {}
    colours = None
    for tile in parts:
        piece = answer(source.pixels[tile.rows, tile.columns])
        colours = piece.colours
        for name in ("mask", "probabilities", "confidence"):
            if (values := getattr(piece, name)) is not None:
                target = whole.setdefault(name, np.empty((*values.shape[:-2], *source.size), values.dtype))
                target[(..., *tile.answered)] = values[(..., *tile.inner)]
    return Answer(source.size, whole.get("mask"), whole.get("probabilities"), whole.get("confidence"), colours=colours)


def _spans(size: int, length: int) -> list[tuple[slice, slice]]:
    """Where tiles of a length lie along a side, evenly spread, and what each of them answers."""
    overlap = min(_OVERLAP, length // 4)
    number = 1 if length >= size else -(-(size - overlap) // (length - overlap))
    starts = [(size - length) * place // max(1, number - 1) for place in range(number)]
    borders = [0, *((after + before + length) // 2 for before, after in pairwise(starts)), size]
    return [
        (slice(start, start + length), slice(begin, end))
        for start, (begin, end) in zip(starts, pairwise(borders), strict=True)
    ]


def _each(values: NDArray[Any] | None, size: tuple[int, int], method: Image.Resampling) -> Any:
    """An array (..., h, w) scaled to a size (height, width)."""
    if values is None:
        return None
    planes = values.reshape(-1, *values.shape[-2:])
    scaled = np.empty((len(planes), *size), values.dtype)
    for plane, target in zip(planes, scaled, strict=True):
        target[:] = np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size[::-1], method))
    return scaled.reshape(*values.shape[:-2], *size)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=0)  # colours in full resolution
    return file.getvalue()
