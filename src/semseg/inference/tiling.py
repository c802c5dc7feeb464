"""Splits images that are too large for one pass through a network into overlapping tiles, and blends their logits.

Sizes are in cells: the squares of pixels that share one place of the logits, whose side is the network's stride. Tiles
begin at whole cells and all end within a cell where the image does: so their logits lie on the image's own grid, and
they have one shape, for which the engine prepares once. The quarter of an overlap next to a tile's edge is not used,
because the network sees the least context there; across the middle half one tile's logits fade into the next one's.

A network sees nothing beyond its tile, so tiles are an approximation for all three: FCN sees further than the overlap,
PSP and DeepLabV3 pool over their whole input. Tiles of a quarter million pixels and whole images of 960 x 720 agree on
99.9 % (FCN), 98.4 % (PSP) and 97.5 % (DeepLabV3) of the pixels, measured by `scripts/bench tiles`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from semseg.types import Float32, UInt8

OVERLAP = 128
"""The least number of pixels that neighbouring tiles share along a side.

In that benchmark FCN agrees on 99.5 % with 32, 99.6 % with 64, 99.9 % with 128 and 99.98 % with 192, which computes a
third more than 128; PSP gains nothing from 192, because its tiles get smaller.
"""

SMALLEST_BUDGET = (2 * OVERLAP) ** 2
"""The least number of pixels that a tile may be limited to: a square tile half of whose width overlaps."""


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of an image: the side's size, each tile's length, and the least overlap of neighbours,
    in cells; and the number of tiles."""

    size: int
    length: int
    overlap: int
    tiles: int = 1

    @property
    def starts(self) -> list[int]:
        """The cells where the tiles begin: evenly spread, the first at 0, the last one ending with the side."""
        return [(self.size - self.length) * tile // max(1, self.tiles - 1) for tile in range(self.tiles)]

    @property
    def weights(self) -> list[Float32]:
        """The weight of each tile in its cells, float32 (length,); in each cell of the side they add up to 1."""
        rise = np.clip((np.arange(self.length) + 0.5 - self.overlap / 4) / (self.overlap / 2), 0, 1)
        shares = [
            np.minimum(rise if tile else 1, rise[::-1] if tile < self.tiles - 1 else np.ones(self.length))
            for tile in range(self.tiles)
        ]
        places = [slice(start, start + self.length) for start in self.starts]
        total = np.zeros(self.size)
        for place, share in zip(places, shares, strict=True):
            total[place] += share
        return [(share / total[place]).astype(np.float32) for place, share in zip(places, shares, strict=True)]


def computed_pixels(height: int, width: int, stride: int) -> int:
    """Pixels that a network of this stride computes for an image of this size: both sides count in whole cells.

    With a stride of 8, a single row of pixels counts eight times.
    """
    return stride**2 * _cells(height, stride) * _cells(width, stride)


def plan(height: int, width: int, max_pixels: int, stride: int) -> tuple[Axis, Axis]:
    """The tiles for an image of this size, along its height and its width; a single one if the image fits.

    No tile has more than `max_pixels`, which is at least SMALLEST_BUDGET, counted in whole cells, as a network computes
    them. Among such grids, picks one that takes close to the least computation.
    """
    rows, columns, overlap = _cells(height, stride), _cells(width, stride), OVERLAP // stride
    grids = []
    for tiles in range(1, rows // overlap + 2):
        down = Axis(rows, _length(rows, tiles, overlap), overlap, tiles)
        widest = max_pixels // stride**2 // down.length
        if widest >= min(columns, 2 * overlap):
            needed = 1 if widest >= columns else -(-(columns - overlap) // (widest - overlap))
            grids.append((down, Axis(columns, _length(columns, needed, overlap), overlap, needed)))
            if needed == 1:
                break  # more tiles would only overlap more
    return min(grids, key=lambda grid: grid[0].tiles * grid[0].length * grid[1].tiles * grid[1].length)


def blended(
    image: UInt8, axes: tuple[Axis, Axis], num_classes: int, stride: int, logits: Callable[[UInt8], Float32]
) -> Float32:
    """The logits of an image, uint8 (H, W, 3), blended from its tiles: float32 (C, ceil(H/stride), ceil(W/stride)).

    logits: computes those of a tile: uint8 (h, w, 3), a view of the image -> float32 (C, ceil(h/stride),
    ceil(w/stride)), which is overwritten.
    """
    down, across = axes
    total = np.zeros((num_classes, down.size, across.size), dtype=np.float32)
    missing = [stride * axis.size - side for axis, side in zip(axes, image.shape, strict=False)]
    tiles = product(zip(down.starts, down.weights, strict=True), zip(across.starts, across.weights, strict=True))
    for (top, rows), (left, columns) in tiles:
        bottom, right = top + down.length, left + across.length
        rows_of_tile = slice(stride * top, stride * bottom - missing[0])
        tile_logits = logits(image[rows_of_tile, stride * left : stride * right - missing[1]])
        tile_logits *= rows[:, None] * columns
        total[:, top:bottom, left:right] += tile_logits
    return total


def _cells(pixels: int, stride: int) -> int:
    return -(-pixels // stride)


def _length(size: int, tiles: int, overlap: int) -> int:
    """The shortest length of this number of overlapping tiles that cover a side."""
    return -(-(size + (tiles - 1) * overlap) // tiles)
