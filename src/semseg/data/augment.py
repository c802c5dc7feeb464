"""GluonCV's transforms of a picture and its mask to a fixed size, made for speed: only what the crop shows is made.

They follow `SegmentationDataset._sync_transform` and `_val_sync_transform` of GluonCV 0.10.5 (algorithm.md 1.5), draw
for draw, and give the same labels, but for the padding of masks: class 0 there, `IGNORED` here. Pixels differ a little;
tests/parity/test_augment.py states by how much. GluonCV scales the whole picture and cuts the crop out of it. Here

- a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that is enough for the drawn scale,
- picture and mask are scaled within the crop only, by the same filters, and mirrored after that,
- the blur, three passes of a box filter in Pillow, is one pass of their product.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil

import numpy as np
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs import images
from semseg.types import IGNORED, UInt8

_RESERVE = 1.25
"""How many times larger than needed a JPEG file must stay that is decoded at a part of its size.

Else the decoder, whose filter is sharper, would do all of the scaling: at 1 pixels differ twice as much.
"""
_MAX_ASPECT = 64
_REACH = 3
"""Pixels on each side that the blur mixes in."""


@dataclass(frozen=True)
class _Side:
    """One side of the crop, horizontal or vertical. The picture has `length` pixels there, `scaled` when scaled.

    Of these the crop shows `count`, from `start` on; what it has beyond them is padding.
    """

    length: int
    scaled: int
    start: int
    count: int

    def mirrored(self) -> _Side:
        """The part of the picture that is the same after mirroring it."""
        return _Side(self.length, self.scaled, self.scaled - self.start - self.count, self.count)

    def interval(self, length: float) -> tuple[float, float]:
        """The shown part of a picture that is stored with another `length`."""
        return self.start * length / self.scaled, min(length, (self.start + self.count) * length / self.scaled)

    def nearest(self) -> NDArray[np.intp]:
        """The pixel of the picture that each shown pixel is a copy of.

        Pillow adds up the step from pixel to pixel; its rounding errors decide where two pixels are equally near.
        """
        steps = np.full(self.start + self.count, self.length / self.scaled)
        steps[0] /= 2
        return np.add.accumulate(steps)[self.start :].astype(np.intp)


def train_transform(
    picture: ImageFile, values: UInt8, table: UInt8, crop_size: int, base_size: int, rng: random.Random
) -> tuple[UInt8, UInt8]:
    """Flip, scale, crop and blur at random: uint8 (crop_size, crop_size, 3) and (crop_size, crop_size), at least 3.

    picture: as `images.open_image` gives it, not yet decoded, of any size; it can be used only once. values: the
    mask's, uint8 (H, W), of the same size. table: uint8 (256,), the class, or `IGNORED`, of each value.
    The long side becomes base_size * 0.5 to 2.0. What the crop finds beyond the picture is black and `IGNORED`.
    Raises ImageError for a picture that cannot be decoded.
    """
    flipped = rng.random() < 0.5
    size = _scaled(picture.size, rng.randint(int(base_size * 0.5), int(base_size * 2.0)))
    left, top = (rng.randint(0, max(side, crop_size) - crop_size) for side in size)
    radius = rng.random() if rng.random() < 0.5 else 0.0
    across = _Side(picture.width, size[0], left, min(crop_size, size[0]))
    down = _Side(picture.height, size[1], top, min(crop_size, size[1]))
    labels = _labels(values, table, across, down, flipped)
    image, stored = images.decode_reduced(picture, (ceil(_RESERVE * size[0]), ceil(_RESERVE * size[1])))
    pixels = _pixels(image, stored, across.mirrored() if flipped else across, down)
    if flipped:
        pixels = pixels[:, ::-1]
    return _blurred(_padded(pixels, crop_size, 0), radius), _padded(labels, crop_size, IGNORED)


def validation_transform(picture: ImageFile, values: UInt8, table: UInt8, crop_size: int) -> tuple[UInt8, UInt8]:
    """Scale the short side to crop_size and cut out the middle; all else as `train_transform`.

    Of a picture more than 64 times as long as wide only the middle is scaled, to bound memory.
    """
    left, top, right, bottom = _middle(*picture.size)
    image = images.decode_whole(picture)
    image = image[top:bottom, left:right]
    height, width = image.shape[:2]
    if width > height:
        size = int(1.0 * width * crop_size / height), crop_size
    else:
        size = crop_size, int(1.0 * height * crop_size / width)
    across = _Side(width, size[0], round((size[0] - crop_size) / 2.0), crop_size)
    down = _Side(height, size[1], round((size[1] - crop_size) / 2.0), crop_size)
    labels = _labels(values[top:bottom, left:right], table, across, down, flipped=False)
    return _pixels(image, (width, height), across, down), labels


def _scaled(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(width, height) with the long side as given and the same aspect, rounded half up, at least 1."""
    width, height = size
    if height > width:
        return max(1, int(1.0 * width * long_side / height + 0.5)), long_side
    return long_side, max(1, int(1.0 * height * long_side / width + 0.5))


def _pixels(image: UInt8, stored: tuple[float, float], across: _Side, down: _Side) -> UInt8:
    """What the crop shows of a picture (H, W, 3) that is stored with the given width and height.

    As Pillow's `resize` with the bilinear filter, but for 2 levels, and several times as fast.
    """
    (left, right), (top, bottom) = across.interval(stored[0]), down.interval(stored[1])
    source = ImageData(image.shape[1], image.shape[0], PixelType.U8x3, image.tobytes())
    shown = ImageData(across.count, down.count, PixelType.U8x3)
    kernel, box = ResizeAlg.convolution(FilterType.bilinear), CropBox(left, top, right - left, bottom - top)
    Resizer().resize(source, shown, ResizeOptions(kernel, crop_box=box))
    return np.frombuffer(shown.get_buffer(), np.uint8).reshape(down.count, across.count, 3)


def _labels(values: UInt8, table: UInt8, across: _Side, down: _Side, flipped: bool) -> UInt8:
    """What the crop shows of a mask, of which `across` and `down` are the sides: uint8 (rows, columns)."""
    columns = across.nearest()
    if flipped:
        columns = across.length - 1 - columns
    first, last = sorted((columns[0], columns[-1]))
    shown = values[down.nearest(), first : last + 1][:, columns - first]
    # of all ways to look up single bytes the quickest
    labels = np.ascontiguousarray(shown).tobytes().translate(table.tobytes())
    return np.frombuffer(labels, np.uint8).reshape(shown.shape)


def _padded(shown: UInt8, crop_size: int, fill: int) -> UInt8:
    """Fill up to crop_size on the right and at the bottom."""
    height, width = shown.shape[:2]
    if (height, width) == (crop_size, crop_size):
        return shown
    padded = np.full((crop_size, crop_size, *shown.shape[2:]), fill, np.uint8)
    padded[:height, :width] = shown
    return padded


def _blurred(pixels: UInt8, radius: float) -> UInt8:
    """What `ImageFilter.GaussianBlur(radius)` gives, but for 2 levels or so; the radius is at most 1.

    Each of its three passes mixes a pixel with radius ** 2 / 6 of either neighbour. They are done at once, in 1/256.
    """
    side = radius**2 / 6
    centre = 1 - 2 * side
    weights = [round(256 * share) for share in (3 * side * (centre**2 + side**2), 3 * side**2 * centre, side**3)]
    if not any(weights):
        return pixels
    height, width, channels = pixels.shape
    rows = np.empty((height + 2 * _REACH, width * channels), np.uint16)
    rows[_REACH:-_REACH] = pixels.reshape(height, -1)
    _reflect(rows)
    columns = np.empty((height, width + 2 * _REACH, channels), np.uint16)
    columns[:, _REACH:-_REACH] = _mixed(rows.ravel(), weights, rows.shape[1]).reshape(pixels.shape)
    _reflect(columns.swapaxes(0, 1))
    blurred = np.zeros(columns.shape, np.uint8)
    mixed = _mixed(columns.ravel(), weights, channels)
    blurred.ravel()[: len(mixed)] = mixed
    return blurred[:, :width]


def _reflect(rows: NDArray[np.uint16]) -> None:
    """Set the outer rows to the mirror image of the inner ones.

    So a chain of filters that repeat the edge, as Pillow's do, comes to the same as their product.
    """
    rows[:_REACH] = rows[2 * _REACH - 1 : _REACH - 1 : -1]
    rows[-_REACH:] = rows[-_REACH - 1 : -2 * _REACH - 1 : -1]


def _mixed(values: NDArray[np.uint16], weights: list[int], step: int) -> NDArray[np.uint16]:
    """Mix each value with those at 1, 2 and 3 steps on either side, which count `weights` / 256.

    values: uint16 (N,), 0 to 255. Gives uint16 (N - 6 * step,): the outermost lack neighbours.
    """
    count = len(values) - 2 * _REACH * step
    mixed = values[_REACH * step :][:count] * np.uint16(256 - 2 * sum(weights))
    pair = np.empty_like(mixed)
    for distance, weight in enumerate(weights, 1):
        if weight:
            np.add(values[(_REACH - distance) * step :][:count], values[(_REACH + distance) * step :][:count], out=pair)
            pair *= np.uint16(weight)
            mixed += pair
    mixed += np.uint16(128)
    mixed //= np.uint16(256)
    return mixed


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The box around the centre of a picture whose sides differ by at most `_MAX_ASPECT` times."""
    w, h = min(width, _MAX_ASPECT * height), min(height, _MAX_ASPECT * width)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
