"""What looks wrong in images that can be read: each a sentence with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from semseg.data.report import SplitReport, count_of, files_of

_FEW_VALUES = 64
"""What 14 bits of 16 leave of 256 values, 12 bits leave 16."""

_STRAY = 10_000
"""One sample of so many makes no value: dead pixels of a sensor have any."""


def image_suspicions(split: SplitReport) -> Iterator[str]:
    """All about the images of a split."""
    if split.turned.count:
        name = split.listing.pairs[split.turned.first].image.name
        yield (
            f"{split.name}: EXIF orientation, which is ignored here, turns or mirrors "
            f"{files_of(split.turned, 'image', name)} against the masks, which fit in size either way: if they were "
            "annotated as viewers show them, store image and mask as shown, without the tag"
        )
    values = np.flatnonzero(split.upper * _STRAY > split.upper.sum())
    if split.deep.count and len(values) <= _FEW_VALUES:
        name = split.listing.pairs[split.deep.first].image.name
        yield (
            f"{split.name}: of {files_of(split.deep, '16-bit image', name)} only the upper 8 bits count, and these "
            f"have no more than {count_of(len(values), 'different value')} ({values[0]} to {values[-1]}), as of 12-bit "
            "or thermal data: stretch the values over 0 to 65535, in requests too"
        )


def shared_images(splits: Sequence[SplitReport]) -> Iterator[str]:
    """Splits that have images in common."""
    for one, other in combinations(splits, 2):
        shared = np.flatnonzero(np.isin(other.digests, one.digests) & (other.digests != 0))
        if len(shared):
            place = int(np.flatnonzero(one.digests == other.digests[shared[0]])[0])
            first, second = one.listing.pairs[place].image.name, other.listing.pairs[shared[0]].image.name
            yield (
                f"{one.name} and {other.name} share {count_of(len(shared), 'image')}, byte for byte "
                f"(such as {first} and {second}): {other.name} then measures what was learnt by heart; keep each image "
                "in one of the two"
            )
