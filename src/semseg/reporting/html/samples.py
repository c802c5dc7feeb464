"""The sample images of a report: small copies of images, their labels and what was predicted for them."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from PIL import Image

from semseg.types import IGNORED, Batch, UInt8

MAX_PIXELS = 240 * 240
"""The pixels of a copy: with it, the images of a report take less than 2 MB, even if all of them are noise."""

_LONGEST_SIDE = 4096
"""The most rows or columns of a copy: a JPEG file can have 65,500, and browsers show little of them."""

COUNT = 4
"""The images of each kind: those that are the same in every epoch, and those with most errors."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A small copy of an image with its labels and a prediction.

    image: uint8 (h, w, 3). labels, predicted: uint8 (h, w) of class ids, and `IGNORED` in the labels. wrong: the share
    of pixels that are predicted wrong, 0 to 1, among those of the image in its own size that are not ignored.
    """

    name: str
    image: UInt8
    labels: UInt8
    predicted: UInt8
    wrong: float


def sample(name: str, image: UInt8, labels: UInt8, predicted: UInt8) -> Sample:
    """Returns a small copy of an image, uint8 (H, W, 3), its labels and what was predicted for it, uint8 (H, W)."""
    (wrong,) = _wrong(labels[None], predicted[None])
    return _small(name, image, labels, predicted, wrong)


class SampleChooser:
    """Keeps small copies of a few images of a validation: always the same ones, and those with most errors.

    The same ones are those whose names have the smallest hashes: this needs neither their number nor their order, and
    does not depend on which rank validates them. At most `2 * count` copies are kept.
    """

    def __init__(self, count: int = COUNT) -> None:
        self._seen = 0
        self._same, self._worst = _Largest(count), _Largest(count)

    @property
    def same(self) -> tuple[Sample, ...]:
        """The images that are the same in every epoch, by name."""
        return tuple(sorted(self._same.samples(), key=lambda found: found.name))

    @property
    def worst(self) -> tuple[Sample, ...]:
        """The images with the largest share of wrong pixels, the worst first; none that is all right."""
        return self._worst.samples()

    def add(self, batch: Batch, predicted: UInt8) -> None:
        """Takes the images of a batch, with their predictions, uint8 (N, H, W); copies those that it keeps."""
        for index, wrong in enumerate(_wrong(batch.labels, predicted)):
            self._seen += 1
            name = batch.names[index] if batch.names else f"image {self._seen}"
            hashed = blake2b(name.encode(errors="surrogateescape"), digest_size=6)  # 48 bits: exact as a float
            takers = [(self._same, -float(int.from_bytes(hashed.digest(), "big")))]
            takers += [(self._worst, wrong)] if wrong else []
            takers = [(largest, key) for largest, key in takers if largest.takes(key)]
            if takers:
                small = _small(name, batch.images[index], batch.labels[index], predicted[index], wrong)
                for largest, key in takers:
                    largest.add(key, -self._seen, small)


class _Largest:
    """The `count` samples with the largest keys; of equal ones, the first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int, Sample]] = []

    def takes(self, key: float) -> bool:
        return len(self._heap) < self._count or key > self._heap[0][0]

    def add(self, key: float, order: int, found: Sample) -> None:
        """order: different for each sample."""
        heapq.heappush(self._heap, (key, order, found))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def samples(self) -> tuple[Sample, ...]:
        return tuple(found for _, _, found in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def _wrong(labels: UInt8, predicted: UInt8) -> list[float]:
    """The share of wrong pixels in each image, of those that are not ignored; 0 where all are."""
    counted = labels != IGNORED
    wrong = np.count_nonzero((predicted != labels) & counted, axis=(1, 2))
    shares: list[float] = (wrong / np.maximum(np.count_nonzero(counted, axis=(1, 2)), 1)).tolist()
    return shares


def _small(name: str, image: UInt8, labels: UInt8, predicted: UInt8, wrong: float) -> Sample:
    height, width = labels.shape
    factor = min(1.0, math.sqrt(MAX_PIXELS / (height * width)), _LONGEST_SIDE / max(height, width))
    h, w = max(1, int(height * factor)), max(1, int(width * factor))
    rows, columns = (np.arange(h) * height // h)[:, None], np.arange(w) * width // w
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Sample(name, np.asarray(resized), labels[rows, columns], predicted[rows, columns], wrong)
