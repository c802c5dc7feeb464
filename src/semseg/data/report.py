"""What the pass over all files found, as values; `reporting.data_report` writes them for people and programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.colors import color_name
from semseg.data.label_map import LabelMap
from semseg.data.pairs import Listing
from semseg.errors import DataError, first_few

Counts = NDArray[np.int64]
COLORS_SHOWN = 20
MAX_COLORS = 256
"""More are those of a photograph, or of a mask stored as one."""

_SHOWN = 20
_HINTS = 3


@dataclass
class Seen:
    """How many pairs of a split have something in common, and the place of the first, counted from 0."""

    count: int = 0
    first: int = 0

    def add(self, place: int) -> None:
        """One more, at a place after those of the others."""
        if not self.count:
            self.first = place
        self.count += 1


@dataclass(frozen=True, eq=False)
class SplitReport:
    """What the files of ``train`` or ``validation`` hold. Files that could not be read count in `pairs` alone.

    class_names: by class id, those that the data tell; known_colors: class id or `IGNORED` by colour, where the label
        map or Ground Truth says so.
    sizes: pictures by (width, height); pictures, masks: files by format and mode, such as ``PNG P``.
    values: int64 (256,), the pixels of each value of the masks, as `decoding.read_values` gives them.
    class_pixels: int64 (num_classes,), the pixels of each class.
    shown_in: int64 (num_classes,), the masks that show each class; shown_among: their pixels that are not ignored.
    unlisted: pixels whose value no label map lists; invalid: whose value would be a class of num_classes or above.
    colored: masks of colours that need a label map of colours.
    colors: (0xRRGGBB, pixels) that no label map lists, most frequent first; empty if there are more than masks have.
    listing: what was read. Of its pairs:
    depths: masks that hold more than zeros, by the bits of a value: 1, 2, 4 of grey that counts as stored, else 8.
    uneven: masks with values that are no multiples of the label map's scale.
    turned: images that EXIF turns against their masks, of which no size tells.
    deep: images of 16 bits; upper: int64 (256,), their samples by the upper 8 bits, which alone count.
    digests: int64 (pairs,), equal where images are byte for byte; 0 of those that cannot be read.
    """

    name: str
    pairs: int
    label_map: LabelMap
    class_names: Mapping[int, str]
    known_colors: Mapping[int, int]
    sizes: Mapping[tuple[int, int], int]
    pictures: Mapping[str, int]
    masks: Mapping[str, int]
    values: Counts
    class_pixels: Counts
    shown_in: Counts
    shown_among: Counts
    unlisted: int
    invalid: int
    colored: int
    colors: tuple[tuple[int, int], ...]
    listing: Listing
    depths: Mapping[int, Seen]
    uneven: Seen
    turned: Seen
    deep: Seen
    upper: Counts
    digests: Counts

    @property
    def ignored(self) -> int:
        """The pixels whose value the label map says to ignore."""
        return int(self.values.sum() - self.class_pixels.sum()) - self.unlisted - self.invalid

    def shares(self) -> NDArray[np.float64] | None:
        """The share of each class in the pixels that are of a class: float64 (num_classes,), 0 to 1; None of none."""
        total = self.class_pixels.sum()
        return self.class_pixels / total if total else None


@dataclass(frozen=True, eq=False)
class Report:
    """What the pass found.

    problems: what keeps a training from starting, first the missing files, then the files in order.
    suspicions: what a training can live with and its results perhaps cannot; each a sentence with what to do.
    suggested_label_map: one that reads the masks of all splits by colour, where they need it; None if they do not.
    """

    splits: tuple[SplitReport, ...]
    problems: tuple[DataError, ...]
    suspicions: tuple[str, ...]
    suggested_label_map: dict[str, Any] | None = None

    def error(self) -> DataError | None:
        """One error for all problems, with the first 20 and their number; where hints repeat, each is given once."""
        if not self.problems:
            return None
        shown, count = self.problems[:_SHOWN], len(self.problems)
        lines = [problem.message for problem in shown] + ([f"... and {count - _SHOWN} more."] if count > _SHOWN else [])
        hints = dict.fromkeys(problem.hint for problem in shown if problem.hint)
        heading = f"{count_of(count, 'problem')} in the data:"
        return DataError("\n".join([heading, *lines, ""]), " ".join(list(hints)[:_HINTS]))

    def raise_problems(self) -> None:
        """Raise `error()`, if there are problems."""
        if error := self.error():
            raise error


def class_weights(split: SplitReport) -> NDArray[np.float64]:
    """Weights of the classes for the loss, by median frequency balancing: float64 (num_classes,).

    A class's frequency is the share of its pixels in the pictures that show it; its weight is the median of all
    frequencies over its own (Eigen and Fergus 2015). Ignored pixels count nowhere, for the loss does not
    see them. A class that no picture shows has the weight 0: it takes no part in the loss anyway.
    """
    weights = np.zeros(len(split.class_pixels))
    shown = split.class_pixels > 0
    if shown.any():
        frequencies = split.class_pixels[shown] / split.shown_among[shown]
        weights[shown] = np.median(frequencies) / frequencies
    return weights


def describe_colors(colors: Sequence[tuple[int, int]]) -> str:
    """``#000000 71.25 %, #2ca02c 20 % and 3 more``, of colours and their pixels."""
    total = sum(pixels for _, pixels in colors)
    return first_few([f"{color_name(color)} {percent(pixels / total)}" for color, pixels in colors], COLORS_SHOWN)


def count_of(number: int, noun: str) -> str:
    """``1 problem``, ``2 problems``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def files_of(seen: Seen, noun: str, name: str) -> str:
    """``1 image (train/a.jpg)``, ``2 images (such as train/a.jpg)``; name: the first one's."""
    return f"{count_of(seen.count, noun)} ({'such as ' if seen.count > 1 else ''}{name})"


def percent(share: float) -> str:
    """``98.76 %``, cut, not rounded: 100 % means all."""
    return f"{math.floor(round(share * 10_000, 6)) / 100:g} %"
