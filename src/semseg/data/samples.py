"""Makes the samples of batches from pairs of files: decoded, labelled, and augmented or cropped.

Results do not depend on the number of threads: the random numbers of an image depend on seed, epoch and index only.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from semseg.codecs import images
from semseg.data.augment import train_transform, validation_transform
from semseg.data.decoding import open_image, read_values, require_classes, require_same_size
from semseg.data.files import naming
from semseg.data.label_map import LabelMap
from semseg.data.pairs import Pair
from semseg.data.threads import map_in_order
from semseg.machine import usable_cores
from semseg.types import Batch, UInt8

Sample = tuple[UInt8, UInt8, str]
"""The pixels of an image, its labels and the name of its file."""

BATCHES_AHEAD = 2
"""The number of batches that are made before they are requested."""


@dataclass(frozen=True)
class IndexedPair:
    """A pair with the number of its epoch and its index in the unshuffled epoch, both from 0."""

    epoch: int
    index: int
    pair: Pair


@dataclass(frozen=True)
class Sampler:
    """How pairs become samples.

    checked: whether `check` has already checked the masks; otherwise each is checked for values that are not classes.
    workers: threads that decode and augment, at most one per core; 0 for the caller's thread.
    """

    label_map: LabelMap
    crop_size: int
    base_size: int
    seed: int
    workers: int
    checked: bool = True

    def training(self, pairs: Iterable[IndexedPair], ahead: int) -> Generator[Sample, None, None]:
        """Augmented samples in the order of the pairs; at most `ahead` are made before they are requested."""
        return map_in_order(self._augmented, pairs, min(self.workers, usable_cores()), ahead)

    def empty_batch(self) -> Batch:
        """A batch of no crops: images (0, crop, crop, 3)."""
        labels = np.zeros((0, self.crop_size, self.crop_size), np.uint8)
        return Batch(np.repeat(labels[..., None], 3, axis=-1), labels)

    def validation(self, pairs: Iterable[IndexedPair], whole: bool, ahead: int) -> Generator[Sample, None, None]:
        """Samples cropped to the centre, or whole images, in the order of the pairs."""
        return map_in_order(self._whole if whole else self._cropped, pairs, min(self.workers, usable_cores()), ahead)

    def _augmented(self, indexed: IndexedPair) -> Sample:
        rng = random.Random(f"{self.seed} {indexed.epoch} {indexed.index}")  # noqa: S311 - no cryptography
        image, values = self._read(indexed.pair)
        with naming(indexed.pair.image):
            sample = train_transform(image, values, self.label_map.table, self.crop_size, self.base_size, rng)
        return *sample, indexed.pair.image.name

    def _cropped(self, indexed: IndexedPair) -> Sample:
        image, values = self._read(indexed.pair)
        with naming(indexed.pair.image):
            sample = validation_transform(image, values, self.label_map.table, self.crop_size)
        return *sample, indexed.pair.image.name

    def whole(self, pair: Pair) -> Sample:
        """A pair in its full size: image uint8 (H, W, 3), labels uint8 (H, W). Raises DataError."""
        image, values = self._read(pair)
        with naming(pair.image):
            pixels = images.decode_whole(image)
        return pixels, self.label_map.apply(values), pair.image.name

    def _whole(self, indexed: IndexedPair) -> Sample:
        return self.whole(indexed.pair)

    def _read(self, pair: Pair) -> tuple[ImageFile, UInt8]:
        image, values = open_image(pair), read_values(pair, self.label_map)
        require_same_size(pair, (image.height, image.width), values.shape)
        if not self.checked:
            require_classes(pair.mask, np.array(Image.fromarray(values).histogram()), self.label_map)
        return image, values


def first_batch(epoch: int, pairs: int, size: int) -> int:
    """The number of the first batch of an epoch, if batches are cut from one endless sequence of all epochs' pairs."""
    return epoch * pairs // size


def batches(samples: Generator[Sample, None, None], size: int) -> Generator[Batch, None, None]:
    """Group samples into batches of `size`; the last one may be smaller."""
    with closing(samples):
        while batch := list(islice(samples, size)):
            images, labels, names = zip(*batch, strict=True)
            yield Batch(np.stack(images), np.stack(labels), names)
