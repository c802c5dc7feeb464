"""From pairs of files to batches, decoded and augmented by threads ahead of the network.

A result never depends on the number of threads: what is drawn for a picture depends on seed, epoch and picture.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
from PIL import Image

from semseg.data.augment import train_transform, validation_transform
from semseg.data.files import read_image, read_mask, require_same_size
from semseg.data.label_map import LabelMap
from semseg.data.pairs import Pair
from semseg.data.threads import map_in_order
from semseg.types import Batch, UInt8

Sample = tuple[UInt8, UInt8]
_BATCHES_AHEAD = 2


class TrainingLoader:
    """Random batches of equal size, for ever.

    All epochs' permutations, one after the other, are one endless row, and batches are cut from it. What does not
    fill a batch so opens the next epoch, as with Gluon's `DataLoader(last_batch='rollover')`, and yet any epoch
    can be started directly. A set smaller than a batch makes one batch of all.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_map: LabelMap,
        batch_size: int,
        crop_size: int,
        base_size: int,
        seed: int,
        workers: int,
    ) -> None:
        self._pairs = pairs
        self._label_map = label_map
        self._batch_size = min(batch_size, len(pairs))
        self._crop_size = crop_size
        self._base_size = base_size
        self._seed = seed
        self._workers = workers

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, counted from 0."""
        first, last = self._batches(epoch)
        return last - first

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """The batches of an epoch, counted from 0: images (N, crop, crop, 3). Raises DataError naming the file."""
        first, last = self._batches(epoch)
        row = self._row(first * self._batch_size, last * self._batch_size)
        samples = map_in_order(self._sample, row, self._workers, _BATCHES_AHEAD * self._batch_size)
        return _batches(samples, self._batch_size)

    def _batches(self, epoch: int) -> tuple[int, int]:
        """The numbers of an epoch's first batch and of the next epoch's first."""
        count = len(self._pairs)
        return epoch * count // self._batch_size, (epoch + 1) * count // self._batch_size

    def _row(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(epoch, index of the pair) at each place of the endless row from `start` to before `stop`."""
        count = len(self._pairs)
        for epoch in range(start // count, -(-stop // count)):
            order = np.random.default_rng((self._seed, epoch)).permutation(count)
            for index in order[max(0, start - epoch * count) : stop - epoch * count]:
                yield epoch, int(index)

    def _sample(self, place: tuple[int, int]) -> Sample:
        epoch, index = place
        rng = random.Random(f"{self._seed} {epoch} {index}")  # noqa: S311 - it shuffles pictures, not secrets
        image, labels = _read(self._pairs[index], self._label_map)
        return train_transform(image, labels, self._crop_size, self._base_size, rng)


class ValidationLoader:
    """Every picture once, in order: cut to crop_size, or, with batch_size 1, whole and alone (algorithm.md 1.1)."""

    def __init__(
        self, pairs: Sequence[Pair], label_map: LabelMap, batch_size: int, crop_size: int, workers: int
    ) -> None:
        self._pairs = pairs
        self._label_map = label_map
        self._batch_size = batch_size
        self._crop_size = crop_size
        self._workers = workers

    def __len__(self) -> int:
        """The number of batches."""
        return -(-len(self._pairs) // self._batch_size)

    def __iter__(self) -> Generator[Batch, None, None]:
        """The batches: the last one may be short. Raises DataError naming the file."""
        samples = map_in_order(self._sample, self._pairs, self._workers, _BATCHES_AHEAD * self._batch_size)
        return _batches(samples, self._batch_size)

    def _sample(self, pair: Pair) -> Sample:
        image, labels = _read(pair, self._label_map)
        if self._batch_size == 1:
            return np.asarray(image), labels
        return validation_transform(image, labels, self._crop_size)


def _read(pair: Pair, label_map: LabelMap) -> tuple[Image.Image, UInt8]:
    image, mask = read_image(pair.image), read_mask(pair.mask)
    require_same_size(pair.image, (image.height, image.width), pair.mask, (mask.shape[0], mask.shape[1]))
    return image, label_map.apply(mask)


def _batches(samples: Generator[Sample, None, None], size: int) -> Generator[Batch, None, None]:
    with closing(samples):
        while batch := list(islice(samples, size)):
            images, labels = zip(*batch, strict=True)
            yield Batch(np.stack(images), np.stack(labels))
