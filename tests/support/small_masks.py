"""Masks of 8 x 10 pixels whose first pixels are given; the others are 0."""

from __future__ import annotations

import numpy as np

from semseg.types import UInt8


def mask(*values: int) -> UInt8:
    pixels = np.zeros(80, np.uint8)
    pixels[: len(values)] = values
    return pixels.reshape(8, 10)


def colored(*colors: tuple[int, int, int]) -> UInt8:
    pixels = np.zeros((80, 3), np.uint8)
    pixels[: len(colors)] = np.array(colors).reshape(-1, 3)
    return pixels.reshape(8, 10, 3)
