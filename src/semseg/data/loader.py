"""From pairs of files to batches, decoded and augmented by threads ahead of the network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from semseg.data.files import AHEAD_BYTES
from semseg.data.pairs import Pair
from semseg.data.samples import BATCHES_AHEAD, IndexedPair, Sample, Sampler, batches, first_batch
from semseg.data.threads import READERS, map_in_order, read_ahead
from semseg.machine import usable_cores
from semseg.types import Batch

_Make = Callable[..., Generator[Sample, None, None]]


class TrainingLoader:
    """Random batches of equal size, for ever.

    All epochs' permutations, one after the other, are one endless row, and batches are cut from it. What does not
    fill a batch so opens the next epoch, as with Gluon's `DataLoader(last_batch='rollover')`, and yet any epoch
    can be started directly. A set smaller than a batch makes one batch of all.
    shuffle: whether an epoch's order is drawn; else it is that of the pairs.
    """

    seekable = True

    def __init__(self, pairs: Sequence[Pair], sampler: Sampler, batch_size: int, shuffle: bool = True) -> None:
        self._pairs = pairs
        self._sampler = sampler
        self._batch_size = min(batch_size, len(pairs))
        self._shuffle = shuffle

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, counted from 0."""
        first, last = self._batches(epoch)
        return last - first

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, counted from 0, but for the first `done`: images (N, crop, crop, 3).

        Raises DataError naming the file.
        """
        first, last = self._batches(epoch)
        row = self._row((first + done) * self._batch_size, last * self._batch_size)
        samples = _made_ahead(self._sampler.training, row, self._sampler.workers, BATCHES_AHEAD * self._batch_size)
        yield from batches(samples, self._batch_size)

    def _batches(self, epoch: int) -> tuple[int, int]:
        """The numbers of an epoch's first batch and of the next epoch's first."""
        first, following = (first_batch(number, len(self._pairs), self._batch_size) for number in (epoch, epoch + 1))
        return first, following

    def _row(self, start: int, stop: int) -> Iterator[IndexedPair]:
        """The endless row from the place `start` to before `stop`."""
        count = len(self._pairs)
        for epoch in range(start // count, -(-stop // count)):
            for index in self._order(epoch)[max(0, start - epoch * count) : stop - epoch * count]:
                yield IndexedPair(epoch, index, self._pairs[index])

    def _order(self, epoch: int) -> Sequence[int]:
        count = len(self._pairs)
        if not self._shuffle:
            return range(count)
        order: list[int] = np.random.default_rng((self._sampler.seed, epoch)).permutation(count).tolist()
        return order


class ValidationLoader:
    """Every picture once, in order: cut to crop_size, or, with batch_size 1, whole and alone (algorithm.md 1.1)."""

    def __init__(self, pairs: Sequence[Pair], sampler: Sampler, batch_size: int) -> None:
        self._pairs = pairs
        self._sampler = sampler
        self._batch_size = batch_size

    def iterations(self) -> int:
        """The number of batches."""
        return -(-len(self._pairs) // self._batch_size)

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:  # noqa: ARG002 - the same in each
        """The batches: the last one may be short. Raises DataError naming the file."""
        row = (IndexedPair(0, index, pair) for index, pair in enumerate(self._pairs))
        make = partial(self._sampler.validation, whole=self._batch_size == 1)
        samples = _made_ahead(make, row, self._sampler.workers, BATCHES_AHEAD * self._batch_size)
        yield from batches(samples, self._batch_size)


def _made_ahead(make: _Make, row: Iterator[IndexedPair], workers: int, ahead: int) -> Generator[Sample, None, None]:
    """Samples that `make` makes of places, about `ahead` of them before they are asked for.

    Few are in the making at once, for those hold their files. Behind them the files of `ahead` places are read by
    threads, as far as `AHEAD_BYTES` go. Without workers all is done in its turn.
    """
    making = min(2 * min(workers, usable_cores()), ahead)

    def produce(_: Callable[[], bool]) -> Generator[Sample, None, None]:
        readers = READERS if workers else 0
        with closing(map_in_order(_loaded, row, readers, ahead, _loaded_bytes, AHEAD_BYTES)) as places:
            yield from make(places, ahead=making)

    return read_ahead(produce, lambda _: 0, 0, ahead - making) if workers else produce(lambda: False)


def _loaded(place: IndexedPair) -> IndexedPair:
    return replace(place, pair=place.pair.loaded())


def _loaded_bytes(place: IndexedPair) -> int:
    return place.pair.loaded_bytes()
