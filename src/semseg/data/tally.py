"""From what each pair holds to what a split holds."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from semseg.data.color_maps import Proposal
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.pairs import Listing
from semseg.data.report import MAX_COLORS, Counts, Seen, SplitReport, describe_colors
from semseg.data.value_colors import ColorCounts, MaskColors
from semseg.errors import DataError


@dataclass
class Finding:
    """What one pair holds.

    size: (width, height), None if the picture cannot be read; picture, mask: the kinds of the files, such as
    ``PNG P``; values: int64 (256,), the pixels of each value of the mask; shown: the colours that these have, where the
    mask is read by value alone.
    colored: the error of a mask of colours that no label map explains; colors: the pixels of each such colour.
    turned: whether EXIF turns the image against its mask, of which no size tells.
    depth: 1, 2 or 4, the bits of a grey mask whose values count as stored, else 8.
    upper: int64 (256,), the samples of an image of 16 bits by their upper 8.
    digest: equal for images that are byte for byte.
    """

    problems: list[DataError] = field(default_factory=list)
    size: tuple[int, int] | None = None
    picture: str = ""
    mask: str = ""
    values: Counts = field(default_factory=lambda: np.zeros(256, np.int64))
    shown: MaskColors | None = None
    colored: DataError | None = None
    colors: dict[int, int] = field(default_factory=dict)
    turned: bool = False
    depth: int = 8
    upper: Counts | None = None
    digest: int = 0


class Tally:
    """What was found so far in a listing."""

    def __init__(self, listing: Listing, label_map: LabelMap) -> None:
        self.listing = listing
        self.label_map = label_map
        self.value_colors = ColorCounts(label_map)
        self._problems: list[DataError] = []
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._pictures: Counter[str] = Counter()
        self._masks: Counter[str] = Counter()
        self._values = np.zeros(256, np.int64)
        self._shown_in = np.zeros(label_map.num_classes, np.int64)
        self._shown_among = np.zeros(label_map.num_classes, np.int64)
        self._colored: list[tuple[int, DataError]] = []
        self._colors: Counter[int] = Counter()
        self._of_scale = label_map.uneven
        self._depths: defaultdict[int, Seen] = defaultdict(Seen)
        self._uneven, self._turned, self._deep = Seen(), Seen(), Seen()
        self._upper = np.zeros(256, np.int64)
        self._digests = array("q")

    def add(self, finding: Finding) -> None:
        """Add a pair, in its turn."""
        self._problems += finding.problems
        if finding.size:
            self._sizes[finding.size] += 1
            self._pictures[finding.picture] += 1
        if finding.mask:
            self._masks[finding.mask] += 1
        self._values += finding.values
        if finding.shown:
            self.value_colors.add(finding.shown)
        classes = self._classes(finding.values)
        self._shown_in += classes > 0
        self._shown_among[classes > 0] += classes.sum()
        if finding.colored:
            self._colored.append((len(self._problems), finding.colored))
        if len(self._colors) <= MAX_COLORS:
            self._colors.update(finding.colors)
        self._add_files(len(self._digests), finding)

    def _add_files(self, place: int, finding: Finding) -> None:
        """Add what is told by file."""
        self._digests.append(finding.digest)
        if finding.values[1:].any():
            self._depths[finding.depth].add(place)
        if finding.values[self._of_scale].any():
            self._uneven.add(place)
        if finding.turned:
            self._turned.add(place)
        if finding.upper is not None:
            self._deep.add(place)
            self._upper += finding.upper

    def split(self) -> SplitReport:
        """All that was added."""
        label_map, values = self.label_map, self._values
        return SplitReport(
            name=self.listing.name,
            pairs=len(self.listing.pairs),
            label_map=label_map,
            class_names=self.listing.colors.class_names(label_map) if self.listing.colors else {},
            known_colors=self._known_colors(),
            sizes=self._sizes,
            pictures=self._pictures,
            masks=self._masks,
            values=values,
            class_pixels=self._classes(values),
            shown_in=self._shown_in,
            shown_among=self._shown_among,
            unlisted=int(values[label_map.unlisted].sum()),
            invalid=int(values[label_map.invalid].sum()),
            colored=len(self._colored),
            colors=tuple(self._colors.most_common()) if len(self._colors) <= MAX_COLORS else (),
            listing=self.listing,
            depths=self._depths,
            uneven=self._uneven,
            turned=self._turned,
            deep=self._deep,
            upper=self._upper,
            digests=np.array(self._digests, np.int64),
        )

    def problems(self, proposal: Proposal | None) -> list[DataError]:
        """What was wrong, file by file; masks of colours are one problem, in the place of the first of them."""
        problems, split = list(self._problems), self.split()
        if self._colored:
            place, first = self._colored[0]
            problems.insert(place, _colored_problem(first, split, proposal))
        if split.values.any() and not split.class_pixels.any() and not split.invalid:
            problems.append(
                DataError(f"Every pixel of the annotations of {split.name} is ignored.", "Check the label map.")
            )
        return problems

    def _known_colors(self) -> Mapping[int, int]:
        if self.label_map.colors is not None:
            return self.label_map.colors
        told = self.listing.colors.classes if self.listing.colors else ()
        return {color: int(self.label_map.table[value]) for value, _, color in told}

    def _classes(self, values: Counts) -> Counts:
        """Pixels by value, int64 (256,), to pixels by class, int64 (num_classes,)."""
        return np.bincount(self.label_map.table, values, 256)[: self.label_map.num_classes].astype(np.int64)


def _colored_problem(first: DataError, split: SplitReport, proposal: Proposal | None) -> DataError:
    """One problem for all masks of colours: the first one's error, their number and colours, the label map to give."""
    message = first.message
    if split.colored > 1:
        message += f" The same holds for {split.colored - 1} more of {split.name}."
    if not split.colors or proposal is None:
        return DataError(
            f"{message} There are more than {UNLISTED_COLOR if split.colors else MAX_COLORS} colours, as in "
            "photographs.",
            "Masks must not be stored as JPEG, smoothed or resized with interpolation on their way to PNG.",
        )
    notes = "".join(f"{note} " for note in proposal.notes)
    return DataError(
        f"{message} The colours: {describe_colors(split.colors)}.",
        f"{notes}Give a label map for all splits, with your numbers (semseg check "
        f"--write-label-map FILE writes it): {proposal.text}.",
    )
