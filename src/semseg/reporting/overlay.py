"""Pictures for people: a mask's classes in colours over its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semseg.codecs.images import decode_image
from semseg.codecs.masks import decode_mask
from semseg.errors import DataError
from semseg.types import UInt8


def class_colours() -> UInt8:
    """A colour for each of the 256 labels, uint8 (256, 3): the colour map of PASCAL VOC, class 0 black."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def overlay(image: UInt8, mask: UInt8) -> UInt8:
    """The picture, uint8 (H, W, 3), with the classes of the mask, uint8 (H, W), in half-transparent colours.

    Class 0 stays as it is.
    """
    colours = class_colours()[mask]
    return np.where(mask[..., None] > 0, image // 2 + colours // 2, image)


def write_overlay(image: Path, mask: Path, out: Path) -> None:
    """Writes the overlay of a JPEG or PNG picture and its PNG mask as a PNG file.

    Raises ImageError for files that cannot be decoded and DataError if their sizes differ.
    """
    pixels, labels = decode_image(image.read_bytes()), decode_mask(mask.read_bytes())
    if pixels.shape[:2] != labels.shape:
        raise DataError(
            f"{image} is {pixels.shape[1]} x {pixels.shape[0]}, {mask} {labels.shape[1]} x {labels.shape[0]}."
        )
    Image.fromarray(overlay(pixels, labels)).save(out, "PNG")
