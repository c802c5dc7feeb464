"""Pictures too large for one pass through a network: overlapping tiles, whose logits are blended.

Sizes are in cells, the squares of 8 x 8 pixels of which a network says one thing. Tiles begin at whole cells and all
end within a cell where the picture does: so their logits lie on the picture's own grid, and they have one shape, for
which the engine prepares itself once. The quarter of an overlap next to a tile's edge is not used, for there the
network sees least; across the middle half the logits of one tile fade into those of the next.

A network sees no further than the tile, which makes tiles an approximation for all three: FCN sees further than the
overlap, PSP and DeepLabV3 pool over all they get. Tiles of a quarter million pixels and whole pictures of 960 x 720
agree on 99.9 % (FCN), 98.4 % (PSP) and 97.5 % (DeepLabV3) of the pixels, by `scripts/bench tiles`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from semseg.types import Float32, UInt8

CELL = 8
OVERLAP = 16
"""Cells that neighbouring tiles share at least: 128 pixels.

In that benchmark FCN agrees on 99.5 % with 32, 99.6 % with 64, 99.9 % with 128 and 99.98 % with 192, which computes a
third more than 128; PSP gains nothing from 192, for its tiles get smaller.
"""

SMALLEST_BUDGET = (2 * OVERLAP * CELL) ** 2
"""Pixels of a square tile that shares half its width."""


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of a picture; `size` of the side and `length` of each tile in cells, and how many tiles."""

    size: int
    length: int
    tiles: int = 1

    @property
    def starts(self) -> list[int]:
        """The cells where the tiles begin: evenly spread, from 0 to where the last one ends with the side."""
        return [(self.size - self.length) * tile // max(1, self.tiles - 1) for tile in range(self.tiles)]

    @property
    def weights(self) -> list[Float32]:
        """The share of each tile in its cells, float32 (length,); over a cell of the side they add up to 1."""
        rise = np.clip((np.arange(self.length) + 0.5 - OVERLAP / 4) / (OVERLAP / 2), 0, 1)
        shares = [
            np.minimum(rise if tile else 1, rise[::-1] if tile < self.tiles - 1 else np.ones(self.length))
            for tile in range(self.tiles)
        ]
        places = [slice(start, start + self.length) for start in self.starts]
        total = np.zeros(self.size)
        for place, share in zip(places, shares, strict=True):
            total[place] += share
        return [(share / total[place]).astype(np.float32) for place, share in zip(places, shares, strict=True)]


def computed_pixels(height: int, width: int) -> int:
    """Pixels that a network computes for a picture of this size: both sides count in whole cells.

    For a single row of pixels that is eight times as many as it has.
    """
    return CELL**2 * _cells(height) * _cells(width)


def plan(height: int, width: int, max_pixels: int) -> tuple[Axis, Axis]:
    """Tiles for a picture of so many pixels: along its height and its width, one of each if the whole will do.

    No tile has more than `max_pixels`, at least SMALLEST_BUDGET, counted in whole cells: a network computes no less.
    Of the grids that keep to this, one with next to the least to compute.
    """
    rows, columns, most = _cells(height), _cells(width), max_pixels // CELL**2
    grids = []
    for tiles in range(1, rows // OVERLAP + 2):
        down = Axis(rows, _length(rows, tiles), tiles)
        widest = most // down.length
        if widest >= min(columns, 2 * OVERLAP):
            needed = 1 if widest >= columns else -(-(columns - OVERLAP) // (widest - OVERLAP))
            grids.append((down, Axis(columns, _length(columns, needed), needed)))
            if needed == 1:
                break  # more of them would only overlap more
    return min(grids, key=lambda grid: grid[0].tiles * grid[0].length * grid[1].tiles * grid[1].length)


def blended(image: UInt8, axes: tuple[Axis, Axis], num_classes: int, logits: Callable[[UInt8], Float32]) -> Float32:
    """Logits of a picture, uint8 (H, W, 3), from the tiles of a plan: float32 (classes, ceil(H/8), ceil(W/8)).

    `logits` makes them for a tile: uint8 (h, w, 3), a view of the picture -> float32 (classes, ceil(h/8), ceil(w/8)),
    an array that is overwritten.
    """
    down, across = axes
    total = np.zeros((num_classes, down.size, across.size), dtype=np.float32)
    missing = [CELL * axis.size - side for axis, side in zip(axes, image.shape, strict=False)]
    tiles = product(zip(down.starts, down.weights, strict=True), zip(across.starts, across.weights, strict=True))
    for (top, rows), (left, columns) in tiles:
        bottom, right = top + down.length, left + across.length
        part = logits(image[CELL * top : CELL * bottom - missing[0], CELL * left : CELL * right - missing[1]])
        part *= rows[:, None] * columns
        total[:, top:bottom, left:right] += part
    return total


def _cells(pixels: int) -> int:
    return -(-pixels // CELL)


def _length(size: int, tiles: int) -> int:
    """Of the tiles that cover a side and overlap, as short as can be."""
    return -(-(size + (tiles - 1) * OVERLAP) // tiles)
