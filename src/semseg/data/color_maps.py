"""Proposes a label map by colour for all splits, and finds label maps that contradict each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from semseg.codecs.colors import GREY, color_name
from semseg.data.color_numbers import assign_class_ids
from semseg.data.label_map import UNLISTED_COLOR, LabelMap
from semseg.data.palettes import Palettes
from semseg.data.report import COLORS_SHOWN, SplitReport
from semseg.data.value_colors import ColorCounts
from semseg.errors import first_few
from semseg.types import IGNORED

_NAMED = 10


@dataclass(frozen=True)
class Proposal:
    """A proposed label map.

    classes: class id or `IGNORED` by colour; notes: sentences on what was guessed and what does not fit.
    """

    classes: Mapping[int, int]
    notes: tuple[str, ...]

    @property
    def source(self) -> dict[str, Any]:
        """The label map as a JSON object."""
        return _source(self._ordered())

    @property
    def text(self) -> str:
        """The label map as JSON text, cut after 20 colours."""
        ordered = self._ordered()
        text = json.dumps(_source(ordered[:COLORS_SHOWN]))
        return text if len(ordered) <= COLORS_SHOWN else f"{text[:-2]}, ...}}}}"

    def _ordered(self) -> list[tuple[int, int]]:
        """(class id, colour), sorted."""
        return sorted((class_id, color) for color, class_id in self.classes.items())


def propose(splits: Sequence[SplitReport], counts: Iterable[ColorCounts], palettes: Palettes) -> Proposal | None:
    """Propose a label map by colour for all splits, if masks have unlisted colours or their palettes contradict.

    counts: the colours of the masks that are read by value, one for each split. Colours keep the class that a label map
    or Ground Truth gives them. Returns None if no label map is needed, or if it would have too many classes.
    """
    colored: Counter[int] = Counter()
    known: dict[int, int] = {}
    for split in splits:
        known = {**split.known_colors, **known}
        if split.colored:
            colored.update(dict(split.colors))
    if not colored and not palettes.contradiction(splits):
        return None
    classes, notes = assign_class_ids(_joined(colored, counts), known, splits[0].label_map.num_classes)
    usable = all(class_id < UNLISTED_COLOR or class_id == IGNORED for class_id in classes.values())
    return Proposal(classes, notes) if usable else None


def palette_suspicion(palettes: Palettes, splits: Sequence[SplitReport], proposal: Proposal | None) -> Iterator[str]:
    """Contradictions between the palettes of masks that are read by value, with advice."""
    if clause := palettes.contradiction(splits):
        text = f" (semseg check --write-label-map FILE writes it): {proposal.text}" if proposal else ""
        sentence = (
            f"{clause}, as where each file has a palette of its own; if the colours are right, give a label map by "
            f"colour{text}"
        )
        yield " ".join([f"{sentence}.", *(proposal.notes if proposal else ())]).rstrip(".")


def contradictions(label_maps: Iterable[tuple[str, LabelMap]]) -> Iterator[str]:
    """Pairs of splits whose label maps give one colour different classes; pixel values may differ between splits."""
    for (first, one), (second, other) in combinations(label_maps, 2):
        colors, others = one.colors or {}, other.colors or {}
        differing = [
            f"{color_name(color)}: {class_id} and {others[color]}"
            for color, class_id in colors.items()
            if others.get(color, class_id) != class_id
        ]
        if differing:
            yield (
                f"{first} and {second}: their label maps give one colour different classes "
                f"({first_few(differing, _NAMED)}); make them agree, or give one label_map.json for all splits"
            )


def _joined(colored: Counter[int], counts: Iterable[ColorCounts]) -> Counter[int]:
    """The number of pixels of each colour. If all are grey, plain values (grey equal to the value) count as well."""
    counts = tuple(counts)
    colors = sum((one.colors() for one in counts), colored)
    return sum((one.plain_values() for one in counts), colors) if all(color % GREY == 0 for color in colors) else colors


def _source(ordered: Iterable[tuple[int, int]]) -> dict[str, Any]:
    colors: dict[int, list[str]] = {}
    for class_id, color in ordered:
        colors.setdefault(class_id, []).append(color_name(color))
    return {"colors": {str(class_id): names if len(names) > 1 else names[0] for class_id, names in colors.items()}}
