"""The bytes of a pair to pixels; every error names the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs import colors, images, masks
from semseg.data.files import File, naming
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Pair
from semseg.errors import DataError, some
from semseg.types import UInt8


def open_image(pair: Pair) -> ImageFile:
    """The picture of a pair, its header parsed, no pixel decoded. Raises DataError."""
    with naming(pair.image):
        return images.open_image(pair.image.read())


def verify_image(pair: Pair, picture: ImageFile) -> tuple[int, int]:
    """(height, width) of a picture of `open_image`, which is read to its end. Raises DataError."""
    with naming(pair.image):
        return images.verify_whole(picture)


def read_values(pair: Pair, label_map: LabelMap) -> UInt8:
    """The pixel values of the mask, which the label map translates: uint8 (H, W). Raises DataError.

    They come from the colours if the label map is one of colours, else, under Ground Truth's map, as that says. Grey of
    1, 2 and 4 bits counts as stored or as if it had 8 bits, as the label map says, in whatever way a mask is read.
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
    hint = "A mask covers its picture pixel by pixel."
    if image_size == mask_size[::-1] and images.exif_swaps_sides(pair.image.read()):
        hint = "The picture's EXIF orientation swaps its sides and is ignored here: store it turned, without the tag."
    (height, width), (mask_height, mask_width) = image_size, mask_size
    raise DataError(
        f"{pair.mask.name} has {mask_width} x {mask_height} pixels, {pair.image.name} {width} x {height}.", hint
    )


def require_classes(mask: File, pixels: NDArray[np.int64], label_map: LabelMap) -> None:
    """Raise DataError if the mask, with so many pixels of each of the 256 values, has values that are no class."""
    values = np.flatnonzero(label_map.invalid & (pixels > 0))
    if len(values):
        raise DataError(
            f"{mask.name}: pixel values {some(values.tolist(), 10)} are no class under {label_map.source}: "
            f"num_classes is {label_map.num_classes}.",
            "Raise num_classes, or give a label map.",
        )
