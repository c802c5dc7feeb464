"""The region of a class as run lengths: COCO's uncompressed RLE, which pycocotools and others read.

Pixels are counted down the columns, one column after the other. The first run, of pixels outside the region, may be 0
long; then runs inside and outside alternate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from semseg.errors import FormatError
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


def labels_of(regions: Iterable[tuple[int, NDArray[np.int64]]], height: int, width: int) -> UInt8:
    """Return the class ids, uint8 (height, width), of regions that cover each pixel once.

    regions: ids 0 to 255 with their run lengths, int64, from 0 up, as `run_lengths` gives them.
    Raises FormatError for other ids, and if they cover a pixel never or more than once.
    """
    runs_inside = []
    for class_id, runs in regions:
        starts, lengths = np.cumsum(runs)[:-1:2], runs[1::2]
        runs_inside.append(np.stack([starts, lengths, np.full(len(lengths), class_id)])[:, lengths != 0])
    every = np.concatenate([np.empty((3, 0), np.int64), *runs_inside], axis=1)
    starts, lengths, classes = every[:, np.argsort(every[0])]
    if classes.size and not 0 <= classes.min() <= classes.max() <= 255:
        raise FormatError("has regions of a class beyond 0 to 255")
    expected = np.concatenate([[0], np.cumsum(lengths)])
    if (lengths < 0).any() or not np.array_equal(np.append(starts, height * width), expected):
        raise FormatError(f"has regions that do not cover each of {width} x {height} pixels once")
    return np.ascontiguousarray(np.repeat(classes.astype(np.uint8), lengths).reshape(width, height).T)
