"""Warnings about readable images that look wrong, each a sentence with advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from semseg.data.report import SplitReport, files_of
from semseg.errors import count_of

_FEW_VALUES = 64
"""The number of different upper bytes in 14-bit data stored as 16 bits; 12-bit data has 16."""

_RARE = 10_000
"""A value must have more than one in 10,000 samples to count, as dead pixels of a sensor may have any value."""


def image_suspicions(split: SplitReport) -> Iterator[str]:
    """Warnings about the images of one split."""
    if split.rotated_by_exif.count:
        name = split.listing.pairs[split.rotated_by_exif.first].image.name
        yield (
            f"{split.name}: EXIF orientation, which is ignored here, rotates or mirrors "
            f"{files_of(split.rotated_by_exif, 'image', name)} against the masks, and the sizes match either way: if "
            "these were annotated as viewers show them, store image and mask as shown, without the tag"
        )
    values = np.flatnonzero(split.upper_bytes * _RARE > split.upper_bytes.sum())
    if split.sixteen_bit.count and len(values) <= _FEW_VALUES:
        name = split.listing.pairs[split.sixteen_bit.first].image.name
        yield (
            f"{split.name}: only the upper 8 bits of {files_of(split.sixteen_bit, '16-bit image', name)} are used, and "
            f"they have only {count_of(len(values), 'different value')} ({values[0]} to {values[-1]}), as in 12-bit "
            "or thermal data: stretch the values over 0 to 65535, in requests too"
        )


def shared_images(splits: Sequence[SplitReport]) -> Iterator[str]:
    """Warnings about images that occur in two splits."""
    for one, other in combinations(splits, 2):
        shared = np.flatnonzero(np.isin(other.digests, one.digests) & (other.digests != 0))
        if len(shared):
            index = int(np.flatnonzero(one.digests == other.digests[shared[0]])[0])
            first, second = one.listing.pairs[index].image.name, other.listing.pairs[shared[0]].image.name
            yield (
                f"{one.name} and {other.name} share {count_of(len(shared), 'image')}, byte for byte "
                f"(such as {first} and {second}): {other.name} then measures memorization; keep each image in only "
                "one of the two"
            )
