"""The size at which a network gets images: their own, about that of its training, or a share of their own.

Training resizes images so that their long side is 0.5 to 2 times `base_size` before it crops them, while the built-in
algorithm serves images as they are. Where the two differ much, a network sees things at a size it has never learned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

from semseg.artifact.model_dir import BASE, NONE, ModelDescription
from semseg.errors import UserError
from semseg.types import UInt8

MODEL = "model"
"""As the model says, or else `NONE`."""

FACTOR = r"0\.0[5-9][0-9]{0,4}|0\.[1-9][0-9]{0,5}|[1-3](\.[0-9]{1,6})?|4(\.0{1,6})?"
"""A regular expression of the factors allowed, 0.05 to 4."""

CHOICES = f"{NONE} (the image's own size), {BASE} (the model's base_size as the long side), or a factor of 0.05 to 4"

_RESIZING, _RESIZING_SIDE = 6, 64
"""Bytes per pixel of an image, and of the resized one, while it is resized, as copies on their way to and from Rust;
and for each of their rows and columns, as weights of the filter."""


@dataclass(frozen=True)
class Scale:
    """The size at which a network gets images.

    factor: that of both sides; long_side: the length of the long side instead, None for the factor.
    """

    factor: float = 1.0
    long_side: int | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the network gets an image of this size, rounded half up, at least 1."""
        longest = max(height, width)
        part, whole = (self.factor, 1) if self.long_side is None else (self.long_side, longest)
        return max(1, int(height * part / whole + 0.5)), max(1, int(width * part / whole + 0.5))

    def resized(self, image: UInt8) -> UInt8:
        """RGB uint8 (H, W, 3) -> uint8 of `size`, (h, w, 3), by the filter of training; unchanged if it has that."""
        height, width = self.size(*image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        source = ImageData(image.shape[1], image.shape[0], PixelType.U8x3, np.ascontiguousarray(image).tobytes())
        resized = ImageData(width, height, PixelType.U8x3)
        Resizer().resize(source, resized, ResizeOptions(ResizeAlg.convolution(FilterType.bilinear)))
        return np.frombuffer(resized.get_buffer(), np.uint8).reshape(height, width, 3)

    def __str__(self) -> str:
        """The text that `parse_scale` reads."""
        if self.long_side is not None:
            return BASE
        return NONE if self.factor == 1 else f"{self.factor:.7g}"

    def memory(self, height: int, width: int) -> int:
        """The most bytes that `resized` takes beside the image, for an image of this size."""
        size = self.size(height, width)
        if size == (height, width):
            return 0
        between = 3 * max(height * size[1], size[0] * width)  # resized along one axis
        sides = height + width + sum(size)
        return _RESIZING * (height * width + size[0] * size[1]) + between + _RESIZING_SIDE * sides


UNSCALED = Scale()


def parse_scale(text: str, base_size: int | None) -> Scale:
    """The scale that `none`, `base` or a factor stands for; base_size: that of the training, None if it is unknown.

    Raises UserError.
    """
    if text == NONE:
        return UNSCALED
    if text == BASE:
        if base_size is None:
            raise UserError(
                "The scale is base, but the model does not say at which base_size it was trained.",
                f"Give {NONE} or a factor such as 0.5, or write base_size into its hyperparams.json.",
            )
        return Scale(long_side=base_size)
    if not re.fullmatch(FACTOR, text):
        raise UserError(f"The scale is {text[:50]!r}.", f"Give {CHOICES}.")
    return Scale(float(text))


def scale_of(model: ModelDescription, text: str = MODEL) -> Scale:
    """The scale that `text` stands for: as `parse_scale`, or as the model says. Raises UserError."""
    return parse_scale(model.serving_scale if text == MODEL else text, model.base_size)
