"""A class's region as run lengths, in the form of COCO's uncompressed RLE, which pycocotools and others read.

Pixels are counted down the columns, one column after the other: the run of pixels outside the region comes first,
which may be 0, then the run inside, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semseg.types import UInt8

Int32 = NDArray[np.int32]


def run_lengths(labels: UInt8, num_classes: int) -> Iterator[Int32]:
    """The run lengths of each class, in the order of the ids: int32, their sum the number of pixels.

    labels: uint8 (H, W), fewer than 2^31 of them.
    """
    columns = labels.T.ravel()
    starts = np.flatnonzero(np.diff(columns, prepend=columns[:1] + 1) != 0).astype(np.int32)
    classes = columns[starts]
    ends = np.append(starts[1:], np.int32(columns.size))
    for number in range(num_classes):
        own = classes == number
        bounds = np.zeros(2 * np.count_nonzero(own) + 1, np.int32)
        bounds[1::2], bounds[2::2] = starts[own], ends[own]
        rest = np.int32(columns.size) - bounds[-1:]
        yield np.concatenate([np.diff(bounds), rest[rest > 0]])
