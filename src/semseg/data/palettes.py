"""Finds masks whose palettes contradict each other: one colour has two classes.

Programs that shrink PNG files give each file its own palette, in which the first colour of the image becomes 0, the
next 1. As masks are read by palette index, such masks would silently be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semseg.codecs.colors import color_name
from semseg.data.report import MAX_COLORS, SplitReport
from semseg.data.value_colors import MaskColors, ValueColor
from semseg.types import IGNORED


class Palettes:
    """Compares the meaning of colours in all masks that are read by value."""

    def __init__(self) -> None:
        self._of_color: dict[int, tuple[ValueColor, str]] = {}
        self._of_value: dict[int, tuple[int, str]] = {}
        self._colors: set[int] = set()
        self._plain_values = np.zeros(256, np.bool_)
        self._color_conflict = ""
        self._value_conflict = ""

    def add(self, mask: MaskColors) -> None:
        """Compare a mask with all masks added before."""
        if mask.plain_values and not self._has_new_values(mask):
            return
        for entry in mask.present:
            if entry.value == entry.class_id == IGNORED:  # ignored pixels may have any colour
                continue
            if entry.unique:
                self._note_color(entry, mask.name)
            if not mask.plain_values:
                self._note_value(entry, mask.name)

    def contradiction(self, splits: Sequence[SplitReport]) -> str:
        """The contradiction in these splits, as a clause; empty if there is none.

        One colour must not have values of different classes. One value with two colours may be harmless: the masks may
        come from programs with different palettes. It is reported, however, if some classes have no pixels although
        there are as many colours as classes, or one more (for ignored pixels).
        """
        if self._color_conflict or not self._value_conflict:
            return self._color_conflict
        pixels = np.sum([split.class_pixels for split in splits], axis=0)
        as_many = len(self._colors) - len(pixels) in (0, 1)
        return self._value_conflict if as_many and not pixels.all() else ""

    def _has_new_values(self, mask: MaskColors) -> bool:
        """Whether a mask of plain values has a value that no earlier one had."""
        new = (mask.values > 0) & ~self._plain_values
        self._plain_values |= new
        return bool(new.any())

    def _note_color(self, entry: ValueColor, mask: str) -> None:
        if self._color_conflict or (len(self._of_color) > MAX_COLORS and entry.color not in self._of_color):
            return
        first, where = self._of_color.setdefault(entry.color, (entry, mask))
        if first.value != entry.value and first.class_id != entry.class_id:
            self._color_conflict = (
                f"{color_name(entry.color)} is {_class(first)} in {where}, but {_class(entry)} in {mask}"
            )

    def _note_value(self, entry: ValueColor, mask: str) -> None:
        if len(self._colors) <= MAX_COLORS:
            self._colors.add(entry.color)
        if self._value_conflict or entry.is_plain_grey:
            return
        first, where = self._of_value.setdefault(entry.value, (entry.color, mask))
        if first != entry.color:
            self._value_conflict = (
                f"the value {entry.value} is {color_name(first)} in {where}, but {color_name(entry.color)} in {mask}, "
                "and there are as many colours as classes, but fewer values"
            )


def _class(entry: ValueColor) -> str:
    class_id = "ignored" if entry.class_id == IGNORED else f"class {entry.class_id}"
    return f"{class_id} (value {entry.value})"
