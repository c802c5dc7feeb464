"""The colours that values have in the file, where masks are read by value alone."""

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
    """A value that a mask shows: its pixels, its class and its colour (0xRRGGBB).

    own: whether no other value has this colour, as all have that a palette is filled up with.
    """

    value: int
    pixels: int
    class_id: int
    color: int
    own: bool

    @property
    def number(self) -> bool:
        """Whether the colour says no more than the value, being its level of grey."""
        return self.color == self.value * GREY


@dataclass(frozen=True, eq=False)
class MaskColors:
    """The colours of a mask.

    colors: int64 (256,), of each value, -1 for none; values: int64 (256,), the pixels of each; classes: uint8 (256,),
    class ids and `IGNORED`. numbers: whether the mask has no colours, but numbers, with or without a palette.
    """

    name: str
    colors: NDArray[np.int64]
    values: Counts
    classes: UInt8
    numbers: bool

    @cached_property
    def shown(self) -> tuple[ValueColor, ...]:
        """The values that pixels have, but for those without a colour."""
        shown = np.flatnonzero((self.values > 0) & (self.colors >= 0))
        colors = self.colors[shown]
        own = (colors[:, np.newaxis] == self.colors).sum(axis=1) == 1
        columns = (shown, self.values[shown], self.classes[shown], colors, own)
        return tuple(starmap(ValueColor, zip(*(column.tolist() for column in columns), strict=True)))


def mask_colors(name: str, image: ImageFile, values: Counts, label_map: LabelMap) -> MaskColors | None:
    """The colours of an opened mask, of whose values there are so many pixels; None where that is an open question."""
    colors = value_colors(image)
    if colors is None:
        return None
    numbers = image.mode not in ("RGB", "RGBA")
    if image.mode == "P":
        used = np.flatnonzero(values)
        numbers = bool((colors[used] == used * GREY).all())
    return MaskColors(name, colors, values, label_map.table, numbers)


class ColorCounts:
    """The pixels of each colour in the masks of a split that are read by value."""

    def __init__(self, label_map: LabelMap) -> None:
        self._classes = label_map.table
        self._colors: Counter[int] = Counter()
        self._numbers = np.zeros(256, np.int64)

    def add(self, mask: MaskColors) -> None:
        """Count the colours of a mask."""
        if mask.numbers:
            self._numbers += mask.values
        elif len(self._colors) <= MAX_COLORS:
            self._colors.update({entry.color: entry.pixels for entry in mask.shown})

    def colors(self) -> Counter[int]:
        """The pixels of each colour; grey where it is no number of a class, and black, which both may be."""
        return self._colors + self._greys(~self._numbered())

    def numbers(self) -> Counter[int]:
        """The pixels of each grey that is a number."""
        return self._greys(self._numbered())

    def _numbered(self) -> NDArray[np.bool_]:
        values = np.arange(256)
        numbered: NDArray[np.bool_] = (values > 0) & ((self._classes != IGNORED) | (values == IGNORED))
        return numbered

    def _greys(self, which: NDArray[np.bool_]) -> Counter[int]:
        shown = np.flatnonzero(which & (self._numbers > 0))
        return Counter(dict(zip((shown * GREY).tolist(), self._numbers[shown].tolist(), strict=True)))
