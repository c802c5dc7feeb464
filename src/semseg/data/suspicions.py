"""Warnings about readable data that looks wrong, each a sentence with advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from semseg.data.image_suspicions import image_suspicions, shared_images
from semseg.data.report import SplitReport, describe_colors, percent
from semseg.data.value_suspicions import black_and_white, mixed_depths, needed_map, uneven_values
from semseg.errors import first_few, one_line
from semseg.types import IGNORED

_DOMINANT = 0.99
_MOSTLY_IGNORED = 0.9
_TRAIN = "train"
_NAMED = 10


def suspicions(splits: Sequence[SplitReport]) -> tuple[str, ...]:
    """All warnings, split by split. A split without any valid class is a problem (see `Report`), not a warning."""
    found: list[str] = []
    binary = black_and_white(splits)
    for split in splits:
        found += _values(split)
        found += uneven_values(split, splits)
        if split.class_pixels.any():
            found += _shares(split, binary)
        found += image_suspicions(split)
    return (*found, *needed_map(splits), *_unused(splits), *shared_images(splits))


def _values(split: SplitReport) -> Iterator[str]:
    if split.unlisted:
        yield f"{split.name}: {split.unlisted} pixels have {_unlisted(split)}: they are ignored"
    yield from mixed_depths(split)


def _unlisted(split: SplitReport) -> str:
    if split.label_map.colors is not None:
        found = describe_colors(split.colors) or "too many for a mask"
        return f"colours that no label map lists ({found})"
    values = np.flatnonzero(split.label_map.unlisted & (split.values > 0))
    return f"values that no label map lists ({first_few(values.tolist(), 10)})"


def _shares(split: SplitReport, binary: bool) -> Iterator[str]:
    counted = int(split.class_pixels.sum())
    first = int(split.class_pixels.argmax())
    share = int(split.class_pixels[first]) / counted
    if counted == split.class_pixels[first]:
        white = binary and split.values[IGNORED] and split.label_map.colors is None
        hint = '; for masks of 0 and 255 give the label map {"scale": 255}' if white else ""
        yield f"{split.name}: {_named(split, [first])} is the only class in the annotations{hint}"
    elif share > _DOMINANT:
        yield (
            f"{split.name}: class {_named(split, [first])} has {percent(share)} of the pixels, which is also the "
            "pixel accuracy of a network that predicts nothing else: judge by mIOU, and check the label map"
        )
    total = int(split.values.sum())
    ignored = (split.ignored + split.unlisted) / total
    if ignored > _MOSTLY_IGNORED:
        yield (
            f"{split.name}: {percent(ignored)} of the pixels of the annotations are ignored: nothing is learned from "
            "them; check the label map"
        )


def _unused(splits: Sequence[SplitReport]) -> Iterator[str]:
    """Warnings about classes that do not occur in the training data."""
    train = next((split for split in splits if split.name == _TRAIN and split.class_pixels.any()), None)
    if train is None:
        return
    unseen = train.class_pixels == 0
    seen_in = {split.name: unseen & (split.class_pixels > 0) for split in splits}
    elsewhere = np.logical_or.reduce(list(seen_in.values()))
    nowhere = np.flatnonzero(unseen & ~elsewhere)
    if len(nowhere):
        yield (
            f"{_TRAIN}: of the {len(unseen)} classes, the annotations never contain {_named(train, nowhere.tolist())}: "
            "num_classes may be too high, or the label map wrong"
        )
    if elsewhere.any():
        others = " and ".join(name for name, seen in seen_in.items() if seen.any())
        yield (
            f"{_TRAIN}: the annotations never contain {_named(train, np.flatnonzero(elsewhere).tolist())}, but those "
            f"of {others} do: a network cannot learn what it never sees; split the images again"
        )


def _named(split: SplitReport, classes: Sequence[int]) -> str:
    """Class ids with their names: ``3 (road), 7 (car) and 4 more``."""
    names = ((class_id, split.classes.names[class_id]) for class_id in classes)
    return first_few([f"{class_id} ({one_line(name):.40})" if name else class_id for class_id, name in names], _NAMED)
