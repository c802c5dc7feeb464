"""GluonCV's transforms of a picture and its mask to a fixed size, pixel for pixel.

They follow `SegmentationDataset._sync_transform` and `_val_sync_transform` of GluonCV 0.10.5 (algorithm.md 1.5),
draw for draw. One thing differs: where GluonCV pads masks with class 0, the padding is `IGNORED` here.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageFilter

from semseg.types import IGNORED, UInt8

_MAX_ASPECT = 64


def train_transform(
    image: Image.Image, labels: UInt8, crop_size: int, base_size: int, rng: random.Random
) -> tuple[UInt8, UInt8]:
    """Flip, scale, crop and blur at random: uint8 (crop_size, crop_size, 3) and (crop_size, crop_size).

    image: mode RGB, of any size. labels: uint8 (H, W) of the same size, class ids and `IGNORED`.
    The long side becomes base_size * 0.5 to 2.0. What the crop finds beyond the picture is black and `IGNORED`.
    """
    mask = Image.fromarray(labels)
    if rng.random() < 0.5:
        image, mask = (x.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for x in (image, mask))
    size = _scaled(image.size, rng.randint(int(base_size * 0.5), int(base_size * 2.0)))
    left, top = (rng.randint(0, max(side, crop_size) - crop_size) for side in size)
    image, mask = _resize_and_crop(image, mask, size, (left, top), crop_size)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.random()))
    cropped = np.array(mask)
    cropped[max(0, size[1] - top) :] = IGNORED
    cropped[:, max(0, size[0] - left) :] = IGNORED
    return np.asarray(image), cropped


def validation_transform(image: Image.Image, labels: UInt8, crop_size: int) -> tuple[UInt8, UInt8]:
    """Scale the short side to crop_size and cut out the middle; shapes as those of `train_transform`.

    Of a picture more than 64 times as long as wide only the middle is scaled, to bound memory.
    """
    mask = Image.fromarray(labels)
    image, mask = (x.crop(_middle(*x.size)) for x in (image, mask))
    width, height = image.size
    if width > height:
        size = int(1.0 * width * crop_size / height), crop_size
    else:
        size = crop_size, int(1.0 * height * crop_size / width)
    left, top = (round((side - crop_size) / 2.0) for side in size)
    image, mask = _resize_and_crop(image, mask, size, (left, top), crop_size)
    return np.asarray(image), np.asarray(mask)


def _scaled(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(width, height) with the long side as given and the same aspect, rounded half up, at least 1."""
    width, height = size
    if height > width:
        return max(1, int(1.0 * width * long_side / height + 0.5)), long_side
    return long_side, max(1, int(1.0 * height * long_side / width + 0.5))


def _resize_and_crop(
    image: Image.Image, mask: Image.Image, size: tuple[int, int], corner: tuple[int, int], crop_size: int
) -> tuple[Image.Image, Image.Image]:
    """A square at `corner` (left, top) of picture and mask at the given size; beyond them it is 0."""
    box = (*corner, corner[0] + crop_size, corner[1] + crop_size)
    return (
        image.resize(size, Image.Resampling.BILINEAR).crop(box),
        mask.resize(size, Image.Resampling.NEAREST).crop(box),
    )


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The box around the centre of a picture whose sides differ by at most `_MAX_ASPECT` times."""
    w, h = min(width, _MAX_ASPECT * height), min(height, _MAX_ASPECT * width)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
