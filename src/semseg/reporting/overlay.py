"""Pictures for people: a mask's classes in colours over its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semseg.codecs.images import decode_image
from semseg.codecs.masks import decode_mask
from semseg.codecs.palettes import palette
from semseg.errors import DataError
from semseg.types import UInt8

_ROWS = 32
"""So many at a time stay in the processor's cache."""


def overlay(image: UInt8, mask: UInt8, colours: UInt8, share: float = 0.5) -> UInt8:
    """The picture, uint8 (H, W, 3), with the classes of the mask, uint8 (H, W), in transparent colours.

    colours: of the 256 labels, uint8 (256, 3); where it is black, as that of VOC's background, the picture stays as it
    is. share: the colour's in a pixel, 0 to 1.
    """
    below, above = (np.arange(256) * (1 - share)).astype(np.uint8), (colours * share).astype(np.uint8)
    clear = ~colours.any(axis=1)
    blended = np.empty_like(image)
    for top in range(0, len(image), _ROWS):
        rows = slice(top, top + _ROWS)
        labels, pixels = mask[rows], image[rows]
        blended[rows] = np.where(clear[labels][..., None], pixels, below[pixels] + above[labels])
    return blended


def write_overlay(image: Path, mask: Path, out: Path) -> None:
    """Writes the overlay of a JPEG or PNG picture and its PNG mask as a PNG file.

    Raises ImageError for files that cannot be decoded and DataError if their sizes differ.
    """
    pixels, labels = decode_image(image.read_bytes()), decode_mask(mask.read_bytes())
    if pixels.shape[:2] != labels.shape:
        raise DataError(
            f"{image} is {pixels.shape[1]} x {pixels.shape[0]}, {mask} {labels.shape[1]} x {labels.shape[0]}."
        )
    Image.fromarray(overlay(pixels, labels, palette("voc"))).save(out, "PNG")
