"""Summarises a prediction as JSON: each class's share of the image, mean confidence and, on request, region."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.runs import run_lengths
from semseg.types import Float32, UInt8

_ROWS_AT_ONCE = 32  # bounds the int64 copy that np.bincount makes
_RUNS_AT_ONCE = 1 << 13  # bounds the list of Python integers
_DIGITS = 6  # decimal places in the JSON


def encode_summary(
    labels: UInt8,
    confidence: Float32,
    names: Sequence[str | None],
    with_regions: bool,
    colors: Sequence[str] | None = None,
) -> list[bytes]:
    """Return the JSON object as buffers, to be sent in order.

    labels: uint8 (H, W); confidence: float32 (H, W), the probability of each label; names: one per class,
    None if it is unnamed; with_regions: whether to add the region of each class, as COCO's uncompressed RLE; colors:
    the text of each class's colour, None to leave them out.
    Raises ValueError for a confidence that is infinite or NaN, which JSON cannot represent.
    """
    height, width = labels.shape
    counts, sums = _totals(labels, confidence, len(names))
    image_totals = {"width": width, "height": height, "mean_confidence": _mean(sums.sum(), labels.size)}
    regions = run_lengths(labels, len(names)) if with_regions else None
    buffers = [json.dumps(image_totals, allow_nan=False)[:-1].encode(), b', "classes": [']
    for class_id, name in enumerate(names):
        pixels = int(counts[class_id])
        entry: dict[str, object] = {"id": class_id, "name": name}
        if colors:
            entry["color"] = colors[class_id]
        entry |= {
            "pixels": pixels,
            "share": round(pixels / labels.size, _DIGITS),
            "mean_confidence": _mean(sums[class_id], pixels),
        }
        buffers += [b", " if class_id else b"", json.dumps(entry, allow_nan=False)[:-1].encode()]
        if regions:
            buffers += [
                f', "rle": {{"size": [{height}, {width}], "counts": ['.encode(),
                *_comma_separated(next(regions)),
                b"]}",
            ]
        buffers.append(b"}")
    return [*buffers, b"]}"]


def _totals(labels: UInt8, confidence: Float32, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The number of pixels of each class, and the sum of their confidence."""
    counts, sums = np.zeros(num_classes, np.int64), np.zeros(num_classes)
    for top in range(0, len(labels), _ROWS_AT_ONCE):
        rows = labels[top : top + _ROWS_AT_ONCE].ravel()
        counts += np.bincount(rows, minlength=num_classes)
        sums += np.bincount(rows, confidence[top : top + _ROWS_AT_ONCE].ravel(), num_classes)
    return counts, sums


def _mean(total: Any, pixels: int) -> float | None:
    return round(float(total) / pixels, _DIGITS) if pixels else None


def _comma_separated(numbers: NDArray[np.int32]) -> Iterator[bytes]:
    """Yields the numbers as comma-separated text, in chunks."""
    for start in range(0, len(numbers), _RUNS_AT_ONCE):
        text = ",".join(map(str, numbers[start : start + _RUNS_AT_ONCE].tolist()))
        yield (("," if start else "") + text).encode()
