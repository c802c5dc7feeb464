"""Draws a mask's classes in colours over its image."""

from __future__ import annotations

import numpy as np

from semseg.types import UInt8

_ROWS = 32
"""The number of rows processed at a time, which fit into the processor's cache."""


def overlay(image: UInt8, mask: UInt8, colours: UInt8, share: float = 0.5) -> UInt8:
    """Returns the image, uint8 (H, W, 3), overlaid with the classes of the mask, uint8 (H, W), in transparent colours.

    colours: one for each of the 256 labels, uint8 (256, 3); pixels whose colour is black, such as VOC's background, are
    left unchanged. share: the colour's part of a pixel, 0 to 1.
    """
    below, above = (np.arange(256) * (1 - share)).astype(np.uint8), (colours * share).astype(np.uint8)
    clear = ~colours.any(axis=1)
    blended = np.empty_like(image)
    for top in range(0, len(image), _ROWS):
        rows = slice(top, top + _ROWS)
        labels, pixels = mask[rows], image[rows]
        blended[rows] = np.where(clear[labels][..., None], pixels, below[pixels] + above[labels])
    return blended
