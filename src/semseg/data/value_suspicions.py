"""Warnings about mask values that look wrong, with the label map that they seem to need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np

from semseg.data.report import Counts, Occurrences, SplitReport, files_of
from semseg.errors import count_of, first_few
from semseg.types import IGNORED

_SHOWN = 10
_MOST_LISTED = 20
"""At most this number of values is put in a proposed map: masks with more are smoothed or are not class masks."""


def uneven_values(split: SplitReport, splits: Sequence[SplitReport]) -> Iterator[str]:
    """Warns of values that a scale rounds down.

    255 alone is reported only if it shares its class with another value, unlike under 128 in masks of 0 and 255.
    splits: all splits, as one label map must list their values.
    """
    label_map, pixels = split.label_map, _pixels(splits)
    uneven = np.where(label_map.uneven, split.values, 0)
    rounded_down, white_class = _used(uneven, white=True), label_map.table == label_map.table[IGNORED]
    if not rounded_down or rounded_down == [IGNORED] == _used(pixels * white_class, white=True):
        return
    name = split.listing.pairs[split.uneven.first].mask.name
    values = _used(pixels, white=label_map.table[IGNORED] != IGNORED)
    proposal = ""
    if len(values) <= _MOST_LISTED:
        needed = f"num_classes {len(values)} and " if len(values) > label_map.num_classes else ""
        proposal = f"; if each value is a class, give {needed}the label map {_map_of(values)}, with your class ids"
    yield (
        f"{split.name}: {count_of(int(uneven.sum()), 'pixel')} in {files_of(split.uneven, 'mask', name)} have values "
        f"that are not multiples of the scale {label_map.scale:g} ({first_few(rounded_down, _SHOWN)}) and are "
        f"rounded down: masks must not be smoothed or resized with interpolation{proposal}"
    )


def mixed_depths(split: SplitReport) -> Iterator[str]:
    """Warns of grey masks with few bits whose values count as stored, next to masks with more bits."""
    if len(split.depths) < 2:
        return
    *few, most = sorted(split.depths)
    shallow = Occurrences(sum(split.depths[bits].count for bits in few), min(split.depths[bits].first for bits in few))
    masks = files_of(shallow, "mask", split.listing.pairs[shallow.first].mask.name)
    yield (
        f"{split.name}: the values of {masks}, {' or '.join(f'{bits}-bit' for bits in few)} grey, count as stored, "
        f"next to masks of {most} bits: if a tool dropped unused bits, 255 has become "
        f"{' or '.join(str((1 << bits) - 1) for bits in few)}; save all masks with 8 bits"
    )


def needed_map(splits: Sequence[SplitReport]) -> Iterator[str]:
    """Warns of values that seem to need a label map where they are used as class ids: one for all such splits."""
    splits = [split for split in splits if split.label_map.direct and split.values.any()]
    if not splits:
        return
    num_classes, pixels = splits[0].label_map.num_classes, _pixels(splits)
    names, invalid = " and ".join(split.name for split in splits), any(split.invalid for split in splits)
    depths = {bits for split in splits for bits in split.depths}
    values = _used(pixels)
    scale = _scale(values, bool(pixels[IGNORED]), num_classes, invalid)
    if scale and depths == {8}:  # grey of fewer bits is spread under a scale
        yield (
            f"{names}: all pixel values ({first_few(values, _SHOWN)}) are multiples of {scale}; "
            f'if they were spread to be visible, give the label map {{"scale": "{scale}"}}'
        )
    elif (scale or invalid) and len(depths) == 1 and len(values) <= min(num_classes, _MOST_LISTED):
        values = _used(pixels, white=len(values) < num_classes)
        yield (
            f"{names}: the pixel values are {first_few(values, _MOST_LISTED + 1)}: if each is a class, give the label "
            f"map {_map_of(values)}, with your class ids"
        )


def black_and_white(splits: Sequence[SplitReport]) -> bool:
    """Whether the masks of all splits contain 0 and 255 and no other value."""
    return _used(_pixels(splits), white=True) == [0, IGNORED]


def _scale(values: Sequence[int], white: bool, num_classes: int, invalid: bool) -> int | None:
    """The factor by which all values below 255 seem to be multiplied; None if there is none.

    Two values below num_classes are not enough: a data set may contain only the classes 0 and 2. white: whether 255
    occurs; under the scale it must then be no class, or the class after the others. invalid: whether there are values
    of no class.
    """
    scale = math.gcd(*values)
    if scale < 2 or values[-1] // scale >= num_classes or len(values) < (2 if invalid else 3):
        return None
    if white and IGNORED // scale < num_classes and values[-1] + scale != IGNORED:
        return None
    return scale


def _pixels(splits: Sequence[SplitReport]) -> Counts:
    """The number of pixels with each value in the masks that are not read by colour, of all splits: int64 (256,)."""
    values = [split.values for split in splits if split.label_map.colors is None]
    return np.sum(values, axis=0) if values else np.zeros(256, np.int64)


def _used(pixels: Counts, white: bool = False) -> list[int]:
    """The values that occur, in order; white: whether 255 is included."""
    values: list[int] = np.flatnonzero(pixels if white else pixels[:IGNORED]).tolist()
    return values


def _map_of(values: Sequence[int]) -> str:
    return json.dumps({"map": {str(class_id): value for class_id, value in enumerate(values)}})
