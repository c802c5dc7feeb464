"""From pairs of files to the samples of batches: decoded, labelled, augmented or cut.

A result never depends on the number of threads: what is drawn for a picture depends on seed, epoch and place.
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
"""A picture, its labels and the name of its file."""

BATCHES_AHEAD = 2
"""So many batches are made before they are asked for."""


@dataclass(frozen=True)
class IndexedPair:
    """A pair and where it stands: the number of the epoch and of the pair in the unshuffled epoch, from 0."""

    epoch: int
    index: int
    pair: Pair


@dataclass(frozen=True)
class Sampler:
    """How pairs become samples.

    checked: whether `check` has seen the masks before; else values that are no class are looked for in each.
    workers: threads that decode and augment, at most one a core; 0 for the caller's.
    """

    label_map: LabelMap
    crop_size: int
    base_size: int
    seed: int
    workers: int
    checked: bool = True

    def training(self, places: Iterable[IndexedPair], ahead: int) -> Generator[Sample, None, None]:
        """Augmented samples in the order of their places, made at most `ahead` before they are asked for."""
        return map_in_order(self._augmented, places, min(self.workers, usable_cores()), ahead)

    def validation(self, places: Iterable[IndexedPair], whole: bool, ahead: int) -> Generator[Sample, None, None]:
        """Samples cut to the middle, or whole pictures."""
        return map_in_order(self._whole if whole else self._cut, places, min(self.workers, usable_cores()), ahead)

    def _augmented(self, place: IndexedPair) -> Sample:
        rng = random.Random(f"{self.seed} {place.epoch} {place.index}")  # noqa: S311 - it shuffles pictures, not secrets
        picture, values = self._read(place.pair)
        with naming(place.pair.image):
            sample = train_transform(picture, values, self.label_map.table, self.crop_size, self.base_size, rng)
        return *sample, place.pair.image.name

    def _cut(self, place: IndexedPair) -> Sample:
        picture, values = self._read(place.pair)
        with naming(place.pair.image):
            sample = validation_transform(picture, values, self.label_map.table, self.crop_size)
        return *sample, place.pair.image.name

    def _whole(self, place: IndexedPair) -> Sample:
        picture, values = self._read(place.pair)
        with naming(place.pair.image):
            pixels = images.decode_whole(picture)
        return pixels, self.label_map.apply(values), place.pair.image.name

    def _read(self, pair: Pair) -> tuple[ImageFile, UInt8]:
        picture, values = open_image(pair), read_values(pair, self.label_map)
        require_same_size(pair, (picture.height, picture.width), values.shape)
        if not self.checked:
            require_classes(pair.mask, np.array(Image.fromarray(values).histogram()), self.label_map)
        return picture, values


def first_batch(epoch: int, pairs: int, size: int) -> int:
    """The number of an epoch's first batch, where batches are cut from all epochs' pairs in one endless row."""
    return epoch * pairs // size


def batches(samples: Generator[Sample, None, None], size: int) -> Generator[Batch, None, None]:
    """Batches of `size` samples; the last one may be short."""
    with closing(samples):
        while batch := list(islice(samples, size)):
            images, labels, names = zip(*batch, strict=True)
            yield Batch(np.stack(images), np.stack(labels), names)
