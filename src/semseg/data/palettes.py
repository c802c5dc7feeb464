"""Masks that cannot all be right, read by value: one colour is two classes.

Programs that make PNG files smaller give each file a palette of its own, in which the first colour of the image is 0,
the next 1. As the index of a palette counts, such masks are wrong without an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semseg.codecs.colors import color_name
from semseg.data.report import MAX_COLORS, SplitReport
from semseg.data.value_colors import MaskColors, ValueColor
from semseg.types import IGNORED


class Palettes:
    """What colours mean in the masks of all splits that are read by value."""

    def __init__(self) -> None:
        self._of_color: dict[int, tuple[ValueColor, str]] = {}
        self._of_value: dict[int, tuple[int, str]] = {}
        self._painted: set[int] = set()
        self._numbers = np.zeros(256, np.bool_)
        self._moved = ""
        self._repainted = ""

    def add(self, mask: MaskColors) -> None:
        """Compare a mask with those before it."""
        if mask.numbers and not self._new_numbers(mask):
            return
        for entry in mask.shown:
            if entry.value == entry.class_id == IGNORED:  # which masks show in any colour
                continue
            if entry.own:
                self._note_color(entry, mask.name)
            if not mask.numbers:
                self._note_value(entry, mask.name)

    def contradiction(self, splits: Sequence[SplitReport]) -> str:
        """What is wrong in these splits, as a clause; empty if nothing is.

        It is wrong that a colour has two values of different classes. That a value has two colours may be harmless: a
        set is put together of masks that programs showed in colours of their own. It is wrong, though, where not all
        classes have a value, but there are as many colours as classes, or one more, for what is ignored.
        """
        if self._moved or not self._repainted:
            return self._moved
        pixels = np.sum([split.class_pixels for split in splits], axis=0)
        as_many = len(self._painted) - len(pixels) in (0, 1)
        return self._repainted if as_many and not pixels.all() else ""

    def _new_numbers(self, mask: MaskColors) -> bool:
        """Whether a mask of numbers has some that those before had not."""
        new = (mask.values > 0) & ~self._numbers
        self._numbers |= new
        return bool(new.any())

    def _note_color(self, entry: ValueColor, mask: str) -> None:
        if self._moved or (len(self._of_color) > MAX_COLORS and entry.color not in self._of_color):
            return
        first, where = self._of_color.setdefault(entry.color, (entry, mask))
        if first.value != entry.value and first.class_id != entry.class_id:
            self._moved = f"{color_name(entry.color)} is {_class(first)} in {where}, but {_class(entry)} in {mask}"

    def _note_value(self, entry: ValueColor, mask: str) -> None:
        if len(self._painted) <= MAX_COLORS:
            self._painted.add(entry.color)
        if self._repainted or entry.number:
            return
        first, where = self._of_value.setdefault(entry.value, (entry.color, mask))
        if first != entry.color:
            self._repainted = (
                f"the value {entry.value} is {color_name(first)} in {where}, but {color_name(entry.color)} in {mask}, "
                "and there are as many colours as classes, but fewer values"
            )


def _class(entry: ValueColor) -> str:
    class_id = "ignored" if entry.class_id == IGNORED else f"class {entry.class_id}"
    return f"{class_id} (value {entry.value})"
