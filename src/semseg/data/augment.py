"""GluonCV's transforms of an image and its mask to a fixed size, made fast by computing only the pixels of the crop.

They follow `SegmentationDataset._sync_transform` and `_val_sync_transform` of GluonCV 0.10.5, which the built-in
algorithm uses, with the same random draws and the same labels, except that masks are padded with `IGNORED`, not class
0. Pixels differ slightly; tests/parity/test_augment.py states by how much. GluonCV scales the whole image and then
crops it. Here

- a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that is enough for the drawn scale,
- only the crop of image and mask is scaled, with the same filters, and then mirrored,
- the blur, three passes of a box filter in Pillow, is one pass of their product.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs import images
from semseg.types import IGNORED, UInt8

_RESERVE = 1.25
"""A JPEG file decoded at reduced size must remain at least this factor larger than needed.

Otherwise the decoder, whose filter is sharper, would do all the scaling: with a factor of 1, pixels differ twice as
much from GluonCV's.
"""
_MAX_ASPECT = 64
_BLUR_PIXELS = 3
"""The number of pixels on each side that the blur takes into account."""


@dataclass(frozen=True)
class _Side:
    """One dimension, horizontal or vertical, of an image and its crop.

    The image has `length` pixels, and `scaled` after scaling. The crop contains `count` of these, from `start` on; the
    rest of the crop is padding.
    """

    length: int
    scaled: int
    start: int
    count: int

    def mirrored(self) -> _Side:
        """The part of the image that becomes this part when the image is mirrored."""
        return _Side(self.length, self.scaled, self.scaled - self.start - self.count, self.count)

    def interval(self, length: float) -> tuple[float, float]:
        """Start and end of the cropped part in an image that was decoded at another `length`."""
        return self.start * length / self.scaled, min(length, (self.start + self.count) * length / self.scaled)

    def sources(self, length: float, pixels: int) -> slice:
        """The pixels, of the `pixels` of an image decoded at `length`, that scaling the cropped part reads."""
        begin, end = self.interval(length)
        reach = max(1.0, (end - begin) / self.count)  # of the bilinear filter, on both sides
        return slice(max(0, floor(begin - reach)), min(pixels, ceil(end + reach)))

    def nearest(self) -> NDArray[np.intp]:
        """The index of the image's pixel that each pixel of the crop is copied from: intp (count,).

        Like Pillow, it adds up the step from pixel to pixel: its rounding errors decide between equally near pixels.
        """
        steps = np.full(self.start + self.count, self.length / self.scaled)
        steps[0] /= 2
        return np.add.accumulate(steps)[self.start :].astype(np.intp)


def train_transform(
    image: ImageFile, values: UInt8, table: UInt8, crop_size: int, base_size: int, rng: random.Random
) -> tuple[UInt8, UInt8]:
    """Flip, scale, crop and blur an image and its mask at random.

    image: from `images.open_image`, not yet decoded, of any size; it can be used only once. values: the pixel values
    of the mask, uint8 (H, W), of the same size. table: uint8 (256,), the class, or `IGNORED`, of each value.
    crop_size: at least 3. The long side is scaled to base_size * 0.5 to 2.0. Padding is black and `IGNORED`.
    Returns pixels uint8 (crop_size, crop_size, 3) and labels uint8 (crop_size, crop_size).
    Raises ImageError for an image that cannot be decoded.
    """
    flipped = rng.random() < 0.5
    size = _scaled(image.size, rng.randint(int(base_size * 0.5), int(base_size * 2.0)))
    left, top = (rng.randint(0, max(side, crop_size) - crop_size) for side in size)
    radius = rng.random() if rng.random() < 0.5 else 0.0
    across = _Side(image.width, size[0], left, min(crop_size, size[0]))
    down = _Side(image.height, size[1], top, min(crop_size, size[1]))
    labels = _labels(values, table, across, down, flipped)
    decoded, stored = images.decode_reduced(image, (ceil(_RESERVE * size[0]), ceil(_RESERVE * size[1])))
    pixels = _pixels(decoded, stored, across.mirrored() if flipped else across, down)
    if flipped:
        pixels = pixels[:, ::-1]
    return _blurred(_padded(pixels, crop_size, 0), radius), _padded(labels, crop_size, IGNORED)


def validation_transform(image: ImageFile, values: UInt8, table: UInt8, crop_size: int) -> tuple[UInt8, UInt8]:
    """Scale the short side of an image and its mask to crop_size and crop the centre.

    Arguments, result and errors are those of `train_transform`. If one side is more than 64 times the other, only the
    middle of the image is used, to bound memory.
    """
    left, top, right, bottom = _middle(*image.size)
    pixels = images.decode_whole(image)[top:bottom, left:right]
    height, width = pixels.shape[:2]
    if width > height:
        size = int(1.0 * width * crop_size / height), crop_size
    else:
        size = crop_size, int(1.0 * height * crop_size / width)
    across = _Side(width, size[0], round((size[0] - crop_size) / 2.0), crop_size)
    down = _Side(height, size[1], round((size[1] - crop_size) / 2.0), crop_size)
    labels = _labels(values[top:bottom, left:right], table, across, down, flipped=False)
    return _pixels(pixels, (width, height), across, down), labels


def _scaled(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(width, height) scaled to the given long side with the same aspect ratio, rounded half up, at least 1."""
    width, height = size
    if height > width:
        return max(1, int(1.0 * width * long_side / height + 0.5)), long_side
    return long_side, max(1, int(1.0 * height * long_side / width + 0.5))


def _pixels(image: UInt8, stored: tuple[float, float], across: _Side, down: _Side) -> UInt8:
    """The cropped and scaled part of an image: uint8 (rows, columns, 3).

    image: uint8 (H, W, 3). stored: the exact width and height at which it was decoded.
    Within 2 levels of Pillow's `resize` with the bilinear filter, and several times as fast.
    """
    (left, right), (top, bottom) = across.interval(stored[0]), down.interval(stored[1])
    columns, rows = across.sources(stored[0], image.shape[1]), down.sources(stored[1], image.shape[0])
    part = np.ascontiguousarray(image[rows, columns])  # tobytes is 50 times as slow on a view
    source = ImageData(part.shape[1], part.shape[0], PixelType.U8x3, part.tobytes())
    scaled = ImageData(across.count, down.count, PixelType.U8x3)
    box = CropBox(left - columns.start, top - rows.start, right - left, bottom - top)
    kernel = ResizeAlg.convolution(FilterType.bilinear)
    Resizer().resize(source, scaled, ResizeOptions(kernel, crop_box=box))
    return np.frombuffer(scaled.get_buffer(), np.uint8).reshape(down.count, across.count, 3)


def _labels(values: UInt8, table: UInt8, across: _Side, down: _Side, flipped: bool) -> UInt8:
    """The cropped and scaled part of a mask as class ids and `IGNORED`: uint8 (rows, columns)."""
    columns = across.nearest()
    if flipped:
        columns = across.length - 1 - columns
    first, last = sorted((columns[0], columns[-1]))
    cropped = values[down.nearest(), first : last + 1][:, columns - first]
    # the fastest way to look up single bytes
    labels = np.ascontiguousarray(cropped).tobytes().translate(table.tobytes())
    return np.frombuffer(labels, np.uint8).reshape(cropped.shape)


def _padded(cropped: UInt8, crop_size: int, fill: int) -> UInt8:
    """Pad to crop_size on the right and at the bottom."""
    height, width = cropped.shape[:2]
    if (height, width) == (crop_size, crop_size):
        return cropped
    padded = np.full((crop_size, crop_size, *cropped.shape[2:]), fill, np.uint8)
    padded[:height, :width] = cropped
    return padded


def _blurred(pixels: UInt8, radius: float) -> UInt8:
    """Blur as `ImageFilter.GaussianBlur(radius)` does, within about 2 levels; the radius is at most 1.

    Each of its three passes gives both neighbours of a pixel the weight radius ** 2 / 6. They are applied as one
    filter, with weights in 1/256.
    """
    side = radius**2 / 6
    centre = 1 - 2 * side
    weights = [round(256 * share) for share in (3 * side * (centre**2 + side**2), 3 * side**2 * centre, side**3)]
    if not any(weights):
        return pixels
    height, width, channels = pixels.shape
    rows = np.empty((height + 2 * _BLUR_PIXELS, width * channels), np.uint16)
    rows[_BLUR_PIXELS:-_BLUR_PIXELS] = pixels.reshape(height, -1)
    _reflect(rows)
    columns = np.empty((height, width + 2 * _BLUR_PIXELS, channels), np.uint16)
    columns[:, _BLUR_PIXELS:-_BLUR_PIXELS] = _mixed(rows.ravel(), weights, rows.shape[1]).reshape(pixels.shape)
    _reflect(columns.swapaxes(0, 1))
    blurred = np.zeros(columns.shape, np.uint8)
    mixed = _mixed(columns.ravel(), weights, channels)
    blurred.ravel()[: len(mixed)] = mixed
    return blurred[:, :width]


def _reflect(rows: NDArray[np.uint16]) -> None:
    """Set the outer rows to the mirror image of the inner ones.

    Then the product of the filters equals applying one after the other with the edge repeated, as Pillow does.
    """
    rows[:_BLUR_PIXELS] = rows[2 * _BLUR_PIXELS - 1 : _BLUR_PIXELS - 1 : -1]
    rows[-_BLUR_PIXELS:] = rows[-_BLUR_PIXELS - 1 : -2 * _BLUR_PIXELS - 1 : -1]


def _mixed(values: NDArray[np.uint16], weights: list[int], step: int) -> NDArray[np.uint16]:
    """Average each value with those at 1, 2 and 3 steps on either side, whose weights are `weights` / 256.

    values: uint16 (N,), 0 to 255. Returns uint16 (N - 6 * step,), as the outermost values lack neighbours.
    """
    count = len(values) - 2 * _BLUR_PIXELS * step
    mixed = values[_BLUR_PIXELS * step :][:count] * np.uint16(256 - 2 * sum(weights))
    pair = np.empty_like(mixed)
    for distance, weight in enumerate(weights, 1):
        if weight:
            np.add(
                values[(_BLUR_PIXELS - distance) * step :][:count],
                values[(_BLUR_PIXELS + distance) * step :][:count],
                out=pair,
            )
            pair *= np.uint16(weight)
            mixed += pair
    mixed += np.uint16(128)
    mixed //= np.uint16(256)
    return mixed


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The central box (left, top, right, bottom) whose aspect ratio is at most `_MAX_ASPECT`."""
    w, h = min(width, _MAX_ASPECT * height), min(height, _MAX_ASPECT * width)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
