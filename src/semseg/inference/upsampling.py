"""Bilinear upsampling with aligned corners, as MXNet's BilinearResize2D does it, a block of pixels at a time.

The scores of all classes at full size are the largest array of a prediction (84 MB for 1,000 x 1,000 pixels of 21
classes). Blocks that stay in the processor's cache save that memory and most of the time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semseg.types import Float32

_BLOCK_ROWS = 32
_BLOCK_PIXELS = 1024
"""The least pixels of a block: blocks of a narrow image have more rows, or there would be very many of them."""

_BLOCK_BYTES = 2 << 20


def upsampled_blocks(scores: Float32, height: int, width: int) -> Iterator[tuple[slice, slice, Float32]]:
    """Scores float32 (C, h, w) stretched to (C, height, width), as blocks that cover it once.

    Yields rows, columns and their scores, float32 (C, rows, columns); the array is the caller's to overwrite.
    """
    left, right, across = _neighbours(scores.shape[2], width)
    above, below, down = _neighbours(scores.shape[1], height)
    block_rows = max(_BLOCK_ROWS, _BLOCK_PIXELS // width)
    for rows in _slices(height, block_rows):
        first = above[rows.start]
        band = scores[:, first : below[rows.stop - 1] + 1]
        for columns in _slices(width, max(1, _BLOCK_BYTES // (4 * len(scores) * block_rows))):
            wide = _mix(band.take(left[columns], axis=2), band.take(right[columns], axis=2), across[columns])
            upper, lower = (wide.take(places[rows] - first, axis=1) for places in (above, below))
            yield rows, columns, _mix(upper, lower, down[rows, None])


def _slices(size: int, step: int) -> Iterator[slice]:
    """Consecutive slices of an axis; only the last is shorter than `step`."""
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _neighbours(size: int, stretched: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32]:
    """For each position of the stretched axis, its two neighbours in the source, and the weight of the second.

    The arithmetic is in float32, as MXNet's is.
    """
    scale = np.float32(size - 1) / np.float32(max(stretched - 1, 1))
    position = np.arange(stretched, dtype=np.float32) * scale
    first = np.minimum(position.astype(np.intp), size - 1)
    return first, np.minimum(first + 1, size - 1), position - first.astype(np.float32)


def _mix(first: Float32, second: Float32, weight: Float32) -> Float32:
    """Returns `first` x (1 - weight) + `second` x weight in the memory of `first`; overwrites `second`."""
    first *= 1 - weight
    second *= weight
    first += second
    return first
