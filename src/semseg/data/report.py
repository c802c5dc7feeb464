"""The result of checking a data set, as values; `reporting.data_report` writes it as text and JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.colors import color_name
from semseg.data.label_map import LabelMap
from semseg.data.pairs import Listing
from semseg.errors import DataError, count_of, first_few
from semseg.types import Classes

Counts = NDArray[np.int64]
COLORS_SHOWN = 20
MAX_COLORS = 256
"""An image with more colours is a photograph, or a mask that was stored as one."""

_SHOWN = 20
_FILE = re.compile(r"""line \d+|(['"]).+?\1|.*?\S\.(?:jpe?g|png|tiff?|webp|bmp)(?=[: ])""", re.IGNORECASE)
"""The name of a file at the beginning of a message, or the line of a manifest; the name may have spaces."""

_PARTICULAR = re.compile(r"\S*[/.]\S*|\d+")
"""What differs between the messages of problems of one kind: names of files, and numbers."""


@dataclass
class Occurrences:
    """The number of pairs of a split that share a property, and the index of the first."""

    count: int = 0
    first: int = 0

    def add(self, index: int) -> None:
        """Count the pair at `index`, which is greater than every index added before."""
        if not self.count:
            self.first = index
        self.count += 1


@dataclass(frozen=True, eq=False)
class SplitReport:
    """Statistics of one split (``train``, ``validation`` or ``test``). Unreadable files count only in `pairs`.

    classes: names and colours, where the data contain them; known_colors: class id or `IGNORED` by colour, where
        the label map or Ground Truth defines it.
    sizes: the number of images by (width, height).
    image_kinds, mask_kinds: the number of files by format and mode, such as ``PNG P``.
    values: int64 (256,), the number of mask pixels with each value, as `decoding.read_values` returns them.
    class_pixels: int64 (num_classes,), the number of pixels of each class.
    masks_with_class: int64 (num_classes,), the number of masks that contain each class; pixels_with_class: the number
        of pixels in those masks that are not ignored.
    unlisted: the number of pixels whose value no label map lists; invalid: of those whose value would be a class of
        num_classes or above.
    colored: the number of masks that can only be read with a label map of colours.
    colors: (0xRRGGBB, pixels) that no label map lists, most frequent first; empty if there are more than `MAX_COLORS`.
    listing: the files that were read. The following fields refer to its pairs.
    depths: masks with any value but 0, by bits per value: 1, 2 or 4 for grey whose values count as stored, else 8.
    uneven: masks with values that are not multiples of the label map's scale.
    rotated_by_exif: images that EXIF rotates or mirrors against their masks without a difference in size.
    sixteen_bit: 16-bit images; upper_bytes: int64 (256,), the number of their samples by the upper 8 bits (the lower
        8 are dropped).
    digests: int64 (pairs,), equal for images that are identical byte for byte; 0 for images that cannot be read.
    """

    name: str
    pairs: int
    label_map: LabelMap
    classes: Classes
    known_colors: Mapping[int, int]
    sizes: Mapping[tuple[int, int], int]
    image_kinds: Mapping[str, int]
    mask_kinds: Mapping[str, int]
    values: Counts
    class_pixels: Counts
    masks_with_class: Counts
    pixels_with_class: Counts
    unlisted: int
    invalid: int
    colored: int
    colors: tuple[tuple[int, int], ...]
    listing: Listing
    depths: Mapping[int, Occurrences]
    uneven: Occurrences
    rotated_by_exif: Occurrences
    sixteen_bit: Occurrences
    upper_bytes: Counts
    digests: Counts

    @property
    def ignored(self) -> int:
        """The number of pixels that the label map ignores."""
        return int(self.values.sum() - self.class_pixels.sum()) - self.unlisted - self.invalid

    def extreme_sizes(self) -> tuple[tuple[int, int], ...]:
        """The sizes (width, height) with the fewest and the most pixels: one if they are equal, none without images."""
        ordered = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return tuple(dict.fromkeys((*ordered[:1], *ordered[-1:])))

    def shares(self) -> NDArray[np.float64] | None:
        """The share of each class in all pixels with a class: float64 (num_classes,), 0 to 1; None without any."""
        total = self.class_pixels.sum()
        return self.class_pixels / total if total else None


@dataclass(frozen=True, eq=False)
class Report:
    """The result of checking all splits.

    problems: errors that keep a training from starting: first the missing files, then the other files in order.
    suspicions: warnings about what may spoil the results of a training, each a sentence with advice.
    suggested_label_map: a label map by colour for all splits, where the masks need one; else None.
    image_scale: at which share of the images' size training happens, from `image_scale`; empty if that is unknown.
    """

    splits: tuple[SplitReport, ...]
    problems: tuple[DataError, ...]
    suspicions: tuple[str, ...]
    suggested_label_map: dict[str, Any] | None = None
    image_scale: str = ""

    def error(self) -> DataError | None:
        """One error that lists the first 20 kinds of problems: the first of each, the number of others, a hint.

        The hint of an only kind is that of the error.
        """
        if not self.problems:
            return None
        kinds: dict[str, list[DataError]] = {}
        for problem in self.problems:
            kinds.setdefault(_kind_of(problem.message), []).append(problem)
        lines = [f"{count_of(len(self.problems), 'problem')} in the data:"]
        for alike in list(kinds.values())[:_SHOWN]:
            lines += _lines_of(alike)
        if len(kinds) > _SHOWN:
            others = sum(len(alike) for alike in list(kinds.values())[_SHOWN:])
            lines.append(f"... and {count_of(others, 'other problem')}.")
        hint = lines.pop().strip() if len(kinds) == 1 and self.problems[0].hint else ""
        return DataError("\n".join([*lines, ""] if hint else lines), hint)

    def renamed(self, rename: Callable[[str], str]) -> Report:
        """This report with other names of files. rename: replaces the names in a text."""
        problems = (DataError(rename(problem.message), rename(problem.hint)) for problem in self.problems)
        return replace(self, problems=tuple(problems), suspicions=tuple(map(rename, self.suspicions)))

    def raise_problems(self) -> None:
        """Raise `error()`, if there are problems."""
        if error := self.error():
            raise error


def _kind_of(message: str) -> str:
    """A message without what differs between those of one kind."""
    file = _FILE.match(message)
    return _PARTICULAR.sub("", message[file.end() :] if file else message)


def _file_of(message: str) -> str:
    """The file that a message is about, or its first word."""
    file = _FILE.match(message)
    return file[0] if file else message.partition(" ")[0].rstrip(":")


def _lines_of(alike: Sequence[DataError]) -> list[str]:
    """Problems of one kind as text: the first, the files of others, a hint."""
    first, *others = alike
    lines = [first.message]
    if others:
        files = first_few([_file_of(problem.message) for problem in others], 3)
        lines.append(f"  {len(others)} more like this: {files}")
    return [*lines, f"  {first.hint}"] if first.hint else lines


def class_weights(split: SplitReport) -> NDArray[np.float64]:
    """Class weights for the loss by median frequency balancing (Eigen and Fergus 2015): float64 (num_classes,).

    A class's frequency is the share of its pixels in the images that contain it; its weight is the median of all
    frequencies divided by its own. Ignored pixels are not counted, as the loss does not see them. A class that no image
    contains has the weight 0.
    """
    weights = np.zeros(len(split.class_pixels))
    present = split.class_pixels > 0
    if present.any():
        frequencies = split.class_pixels[present] / split.pixels_with_class[present]
        weights[present] = np.median(frequencies) / frequencies
    return weights


def describe_colors(colors: Sequence[tuple[int, int]]) -> str:
    """Colours with their share of all pixels: ``#000000 71.25 %, #2ca02c 20 % and 3 more``."""
    total = sum(pixels for _, pixels in colors)
    return first_few([f"{color_name(color)} {percent(pixels / total)}" for color, pixels in colors], COLORS_SHOWN)


def files_of(found: Occurrences, noun: str, name: str) -> str:
    """``1 image (train/a.jpg)`` or ``2 images (such as train/a.jpg)``; name: the name of the first file."""
    return f"{count_of(found.count, noun)} ({'such as ' if found.count > 1 else ''}{name})"


def percent(share: float) -> str:
    """A share as ``98.76 %``, rounded down, so that 100 % means all."""
    return f"{math.floor(round(share * 10_000, 6)) / 100:g} %"
