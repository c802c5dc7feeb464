"""Decodes the image and the mask of a pair; every error names the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs import colors, images, masks
from semseg.data.files import File, naming
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Pair
from semseg.errors import DataError, first_few
from semseg.types import UInt8


def open_image(pair: Pair) -> ImageFile:
    """Open the image of a pair: the header is parsed, no pixel decoded. Raises DataError."""
    with naming(pair.image):
        return images.open_image(pair.image.read())


def verify_image(pair: Pair, image: ImageFile) -> tuple[int, int]:
    """Read an image from `open_image` to its end and return (height, width). Raises DataError."""
    with naming(pair.image):
        return images.verify_whole(image)


def read_values(pair: Pair, label_map: LabelMap) -> UInt8:
    """The pixel values of the mask, before the label map is applied: uint8 (H, W). Raises DataError.

    They are derived from the colours if the label map lists colours, else from Ground Truth's colour map, if there is
    one. The label map says whether the values of 1, 2 and 4-bit grey count as stored or are spread to 8 bits.
    """
    with naming(pair.mask):
        data = pair.mask.read()
        if label_map.colors is not None:
            return colors.decode_colors(data, label_map.colors, UNLISTED_COLOR)
        if pair.colors is not None:
            return pair.colors.read_values(data, pair.mask.name, label_map.spread)
        return masks.decode_mask(data, spread=label_map.spread)


def require_same_size(pair: Pair, image_size: tuple[int, int], mask_size: tuple[int, ...]) -> None:
    """Raise DataError unless the two sizes (height, width) are equal."""
    if image_size == mask_size:
        return
    hint = "A mask has one pixel for each pixel of its image."
    if image_size == mask_size[::-1] and images.exif_swaps_sides(pair.image.read()):
        hint = "The image's EXIF orientation swaps its sides and is ignored here: store it rotated, without the tag."
    (height, width), (mask_height, mask_width) = image_size, mask_size
    raise DataError(
        f"{pair.mask.name} has {mask_width} x {mask_height} pixels, {pair.image.name} {width} x {height}.", hint
    )


def require_classes(mask: File, pixels: NDArray[np.int64], label_map: LabelMap) -> None:
    """Raise DataError if the mask has values that are no class; pixels: int64 (256,), its number of pixels by value."""
    values = np.flatnonzero(label_map.invalid & (pixels > 0))
    if len(values):
        raise DataError(
            f"{mask.name}: pixel values {first_few(values.tolist(), 10)} are not classes under {label_map.source}: "
            f"num_classes is {label_map.num_classes}.",
            "Give a label map that says what they are, or train with a higher num_classes.",
        )
