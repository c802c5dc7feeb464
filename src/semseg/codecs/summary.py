"""What a prediction says of a whole picture, as JSON: how much of it each class covers, how surely, and where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.runs import run_lengths
from semseg.types import Float32, UInt8

_ROWS = 32  # np.bincount turns so many rows of uint8 into int64 at a time
_NUMBERS = 1 << 13  # of run lengths that are Python's at a time
_DIGITS = 6


def encode_summary(labels: UInt8, confidence: Float32, names: Sequence[str | None], runs: bool) -> list[bytes]:
    """The JSON object as parts, to be sent one after the other.

    labels: uint8 (H, W); confidence: float32 (H, W), the probability of each label; names: of all classes, None for
    one that has none; runs: whether each class also has its region, as COCO's uncompressed RLE. Raises ValueError for
    a confidence that is no number, which JSON cannot hold.
    """
    height, width = labels.shape
    counts, sums = _totals(labels, confidence, len(names))
    picture = {"width": width, "height": height, "mean_confidence": _mean(sums.sum(), labels.size)}
    regions = run_lengths(labels, len(names)) if runs else None
    parts = [json.dumps(picture, allow_nan=False)[:-1].encode(), b', "classes": [']
    for number, name in enumerate(names):
        entry = {
            "id": number,
            "name": name,
            "pixels": int(counts[number]),
            "share": round(int(counts[number]) / labels.size, _DIGITS),
            "mean_confidence": _mean(sums[number], int(counts[number])),
        }
        parts += [b", " if number else b"", json.dumps(entry, allow_nan=False)[:-1].encode()]
        if regions:
            parts += [f', "rle": {{"size": [{height}, {width}], "counts": ['.encode(), *_texts(next(regions)), b"]}"]
        parts.append(b"}")
    return [*parts, b"]}"]


def _totals(labels: UInt8, confidence: Float32, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each class the number of its pixels and the sum of their confidence."""
    counts, sums = np.zeros(num_classes, np.int64), np.zeros(num_classes)
    for top in range(0, len(labels), _ROWS):
        rows = labels[top : top + _ROWS].ravel()
        counts += np.bincount(rows, minlength=num_classes)
        sums += np.bincount(rows, confidence[top : top + _ROWS].ravel(), num_classes)
    return counts, sums


def _mean(total: Any, pixels: int) -> float | None:
    return round(float(total) / pixels, _DIGITS) if pixels else None


def _texts(numbers: NDArray[np.int32]) -> Iterator[bytes]:
    """Numbers with commas between."""
    for start in range(0, len(numbers), _NUMBERS):
        text = ",".join(map(str, numbers[start : start + _NUMBERS].tolist()))
        yield ("," * bool(start) + text).encode()
