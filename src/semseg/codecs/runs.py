"""Encodes the region of a class as run lengths: COCO's uncompressed RLE, which pycocotools and others read.

Pixels are counted down the columns, one column after the other. The first run, of pixels outside the region, may be 0
long; then runs inside and outside alternate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semseg.types import UInt8

Int32 = NDArray[np.int32]


def run_lengths(labels: UInt8, num_classes: int) -> Iterator[Int32]:
    """Yield the run lengths of each class, in the order of the ids: int32, with the number of pixels as their sum.

    labels: uint8 (H, W), of fewer than 2^31 pixels.
    """
    columns = labels.T.ravel()
    starts = np.flatnonzero(np.diff(columns, prepend=columns[:1] + 1) != 0).astype(np.int32)
    classes = columns[starts]
    ends = np.append(starts[1:], np.int32(columns.size))
    for class_id in range(num_classes):
        inside = classes == class_id
        bounds = np.zeros(2 * np.count_nonzero(inside) + 1, np.int32)
        bounds[1::2], bounds[2::2] = starts[inside], ends[inside]
        rest = np.int32(columns.size) - bounds[-1:]
        yield np.concatenate([np.diff(bounds), rest[rest > 0]])
