"""Adds up the statistics of single pairs to those of a split."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from semseg.data.color_maps import Proposal
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Listing
from semseg.data.report import MAX_COLORS, Counts, Occurrences, SplitReport, describe_colors
from semseg.data.value_colors import ColorCounts, MaskColors
from semseg.errors import DataError


@dataclass
class PairStatistics:
    """What the check found in one pair.

    size: (width, height) of the image; None if it cannot be read.
    image_kind, mask_kind: format and mode of the files, such as ``PNG P``; empty if they cannot be read.
    values: int64 (256,), the number of mask pixels with each value.
    mask_colors: the colours of these values, if the mask is read by value.
    colored: the error, if the mask has colours that no label map lists; colors: the number of pixels of each of them.
    rotated_by_exif: whether EXIF rotates or mirrors the image against its mask without a difference in size.
    depth: bits per value: 1, 2 or 4 for a grey mask whose values count as stored, else 8.
    upper_bytes: int64 (256,), the number of samples of a 16-bit image by their upper 8 bits.
    digest: equal for images that are identical byte for byte.
    """

    problems: list[DataError] = field(default_factory=list)
    size: tuple[int, int] | None = None
    image_kind: str = ""
    mask_kind: str = ""
    values: Counts = field(default_factory=lambda: np.zeros(256, np.int64))
    mask_colors: MaskColors | None = None
    colored: DataError | None = None
    colors: dict[int, int] = field(default_factory=dict)
    rotated_by_exif: bool = False
    depth: int = 8
    upper_bytes: Counts | None = None
    digest: int = 0


class SplitStatistics:
    """Adds up the statistics of the pairs of one split."""

    def __init__(self, listing: Listing, label_map: LabelMap) -> None:
        self.listing = listing
        self.label_map = label_map
        self.value_colors = ColorCounts(label_map)
        self._problems: list[DataError] = []
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._image_kinds: Counter[str] = Counter()
        self._mask_kinds: Counter[str] = Counter()
        self._values = np.zeros(256, np.int64)
        self._masks_with_class = np.zeros(label_map.num_classes, np.int64)
        self._pixels_with_class = np.zeros(label_map.num_classes, np.int64)
        self._colored: list[tuple[int, DataError]] = []
        self._colors: Counter[int] = Counter()
        self._uneven_values = label_map.uneven
        self._depths: defaultdict[int, Occurrences] = defaultdict(Occurrences)
        self._uneven, self._rotated_by_exif, self._sixteen_bit = Occurrences(), Occurrences(), Occurrences()
        self._upper_bytes = np.zeros(256, np.int64)
        self._digests = array("q")

    def add(self, pair: PairStatistics) -> None:
        """Add the statistics of the next pair; pairs are added in the order of the listing."""
        self._problems += pair.problems
        if pair.size:
            self._sizes[pair.size] += 1
            self._image_kinds[pair.image_kind] += 1
        if pair.mask_kind:
            self._mask_kinds[pair.mask_kind] += 1
        self._values += pair.values
        if pair.mask_colors:
            self.value_colors.add(pair.mask_colors)
        classes = self._classes(pair.values)
        self._masks_with_class += classes > 0
        self._pixels_with_class[classes > 0] += classes.sum()
        if pair.colored:
            self._colored.append((len(self._problems), pair.colored))
        if len(self._colors) <= MAX_COLORS:
            self._colors.update(pair.colors)
        self._add_occurrences(len(self._digests), pair)

    def _add_occurrences(self, index: int, pair: PairStatistics) -> None:
        """Note in which pairs each property occurs."""
        self._digests.append(pair.digest)
        if pair.values[1:].any():
            self._depths[pair.depth].add(index)
        if pair.values[self._uneven_values].any():
            self._uneven.add(index)
        if pair.rotated_by_exif:
            self._rotated_by_exif.add(index)
        if pair.upper_bytes is not None:
            self._sixteen_bit.add(index)
            self._upper_bytes += pair.upper_bytes

    def report(self) -> SplitReport:
        """The statistics of all pairs added so far."""
        label_map, values = self.label_map, self._values
        return SplitReport(
            name=self.listing.name,
            pairs=len(self.listing.pairs),
            label_map=label_map,
            classes=self.listing.classes(label_map),
            known_colors=self._known_colors(),
            sizes=self._sizes,
            image_kinds=self._image_kinds,
            mask_kinds=self._mask_kinds,
            values=values,
            class_pixels=self._classes(values),
            masks_with_class=self._masks_with_class,
            pixels_with_class=self._pixels_with_class,
            unlisted=int(values[label_map.unlisted].sum()),
            invalid=int(values[label_map.invalid].sum()),
            colored=len(self._colored),
            colors=tuple(self._colors.most_common()) if len(self._colors) <= MAX_COLORS else (),
            listing=self.listing,
            depths=self._depths,
            uneven=self._uneven,
            rotated_by_exif=self._rotated_by_exif,
            sixteen_bit=self._sixteen_bit,
            upper_bytes=self._upper_bytes,
            digests=np.array(self._digests, np.int64),
        )

    def problems(self, proposal: Proposal | None, suggested_for: str) -> list[DataError]:
        """The problems in order of the files; all masks of unlisted colours are one problem, in place of the first.

        suggested_for: the split whose problem has the proposed label map, which fits all.
        """
        problems, split = list(self._problems), self.report()
        if self._colored:
            index, first = self._colored[0]
            problems.insert(index, _colored_problem(first, split, proposal, suggested_for))
        if split.values.any() and not split.class_pixels.any() and not split.invalid:
            problems.append(
                DataError(f"Every pixel of the annotations of {split.name} is ignored.", "Check the label map.")
            )
        return problems

    def _known_colors(self) -> Mapping[int, int]:
        if self.label_map.colors is not None:
            return self.label_map.colors
        classes = self.listing.colors.classes if self.listing.colors else ()
        return {color: int(self.label_map.table[value]) for value, _, color in classes}

    def _classes(self, values: Counts) -> Counts:
        """The number of pixels by class, int64 (num_classes,), from that by value, int64 (256,)."""
        return np.bincount(self.label_map.table, values, 256)[: self.label_map.num_classes].astype(np.int64)


def _colored_problem(first: DataError, split: SplitReport, proposal: Proposal | None, suggested_for: str) -> DataError:
    """One problem for all masks of unlisted colours: the first error, their number, their colours and a label map."""
    message = first.message
    if split.colored > 1:
        message += f" The same is true of {split.colored - 1} more in {split.name}."
    if not split.colors or proposal is None:
        return DataError(
            f"{message} There are more than {UNLISTED_COLOR if split.colors else MAX_COLORS} colours, as in "
            "photographs.",
            "Masks must not be stored as JPEG, smoothed or resized with interpolation before they are saved as PNG.",
        )
    message = f"{message} The colours: {describe_colors(split.colors)}."
    if suggested_for != split.name:
        return DataError(message, f"The label map suggested for {suggested_for} is for {split.name} too.")
    notes = "".join(f"{note} " for note in proposal.notes)
    return DataError(
        message,
        f"{notes}Give a label map for all splits, with your class ids (semseg check "
        f"--write-label-map FILE writes it): {proposal.text}.",
    )
