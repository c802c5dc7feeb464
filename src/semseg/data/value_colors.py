"""The colours of pixel values in masks that are read by value."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from semseg.codecs.colors import GREY, value_colors
from semseg.data.label_map import LabelMap
from semseg.data.report import MAX_COLORS, Counts
from semseg.types import IGNORED, UInt8


class ValueColor(NamedTuple):
    """A value that occurs in a mask, with its number of pixels, its class id and its colour (0xRRGGBB).

    unique: whether no other entry of the palette has this colour; unused entries often share one.
    """

    value: int
    pixels: int
    class_id: int
    color: int
    unique: bool

    @property
    def is_plain_grey(self) -> bool:
        """Whether the colour is the grey level equal to the value, and so carries no further information."""
        return self.color == self.value * GREY


@dataclass(frozen=True, eq=False)
class MaskColors:
    """The colours of a mask.

    colors: int64 (256,), the colour of each value, -1 for none; values: int64 (256,), the number of pixels with each
    value; classes: uint8 (256,), class ids and `IGNORED`. plain_values: whether every value is shown as the grey level
    equal to it, with or without a palette.
    """

    name: str
    colors: NDArray[np.int64]
    values: Counts
    classes: UInt8
    plain_values: bool

    @cached_property
    def present(self) -> tuple[ValueColor, ...]:
        """The values that occur and have a colour."""
        present = np.flatnonzero((self.values > 0) & (self.colors >= 0))
        colors = self.colors[present]
        unique = (colors[:, np.newaxis] == self.colors).sum(axis=1) == 1
        columns = (present, self.values[present], self.classes[present], colors, unique)
        return tuple(starmap(ValueColor, zip(*(column.tolist() for column in columns), strict=True)))


def mask_colors(name: str, image: ImageFile, values: Counts, label_map: LabelMap) -> MaskColors | None:
    """The colours of an opened mask, with `values` pixels of each value. None if they cannot be determined."""
    colors = value_colors(image)
    if colors is None:
        return None
    plain_values = image.mode not in ("RGB", "RGBA")
    if image.mode == "P":
        used = np.flatnonzero(values)
        plain_values = bool((colors[used] == used * GREY).all())
    return MaskColors(name, colors, values, label_map.table, plain_values)


class ColorCounts:
    """Counts the pixels of each colour in those masks of a split that are read by value."""

    def __init__(self, label_map: LabelMap) -> None:
        self._classes = label_map.table
        self._colors: Counter[int] = Counter()
        self._plain_values = np.zeros(256, np.int64)

    def add(self, mask: MaskColors) -> None:
        """Count the colours of a mask."""
        if mask.plain_values:
            self._plain_values += mask.values
        elif len(self._colors) <= MAX_COLORS:
            self._colors.update({entry.color: entry.pixels for entry in mask.present})

    def colors(self) -> Counter[int]:
        """The number of pixels of each colour, with black and with greys that cannot be a class id stored as grey."""
        return self._colors + self._greys(~self._is_class_value())

    def plain_values(self) -> Counter[int]:
        """The number of pixels of each grey that is a class id (or 255, ignored) stored as grey."""
        return self._greys(self._is_class_value())

    def _is_class_value(self) -> NDArray[np.bool_]:
        values = np.arange(256)
        is_class: NDArray[np.bool_] = (values > 0) & ((self._classes != IGNORED) | (values == IGNORED))
        return is_class

    def _greys(self, which: NDArray[np.bool_]) -> Counter[int]:
        present = np.flatnonzero(which & (self._plain_values > 0))
        return Counter(dict(zip((present * GREY).tolist(), self._plain_values[present].tolist(), strict=True)))
