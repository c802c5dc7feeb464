"""Makes batches from pairs of files, decoded and augmented by threads ahead of training."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from semseg.data.files import AHEAD_BYTES
from semseg.data.pairs import Pair
from semseg.data.samples import BATCHES_AHEAD, IndexedPair, Sample, Sampler, batches, first_batch
from semseg.data.shares import WHOLE, Share
from semseg.data.threads import READERS, map_in_order, read_ahead
from semseg.machine import usable_cores
from semseg.types import Batch

_Make = Callable[..., Generator[Sample, None, None]]


class TrainingLoader:
    """Random batches of equal size, for any number of epochs.

    Batches are cut from one endless sequence: the permutations of all epochs, one after the other. Pairs that do not
    fill a batch thus start the next epoch, as with Gluon's `DataLoader(last_batch='rollover')`, and yet any epoch
    can be started directly. If there are fewer pairs than a batch has, all of them are one batch.
    shuffle: whether the order of an epoch is random; otherwise it is that of the pairs. share: the part of each batch
    that is made here, the same positions in each; it may be empty. whole: if these are only one host's pairs and its
    part of each batch, the number of pairs on all hosts and the size of a whole batch: these make the epochs, in which
    a host then has some of its pairs more often than others.
    """

    seekable = True

    def __init__(
        self,
        pairs: Sequence[Pair],
        sampler: Sampler,
        batch_size: int,
        shuffle: bool = True,
        share: Share = WHOLE,
        whole: tuple[int, int] | None = None,
    ) -> None:
        self._pairs = pairs
        self._sampler = sampler
        self._batch_size = batch_size if whole else min(batch_size, len(pairs))
        self._whole = whole or (len(pairs), self._batch_size)
        self._shuffle = shuffle
        self._part = share.of(self._batch_size)

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, counted from 0."""
        first, last = self._batches(epoch)
        return last - first

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, counted from 0, without the first `done`: images (N, crop, crop, 3).

        Raises DataError with the name of the file.
        """
        first, last = self._batches(epoch)
        size = len(self._part)
        if not size:
            yield from (self._sampler.empty_batch() for _ in range(first + done, last))
            return
        sequence = self._sequence((first + done) * self._batch_size, last * self._batch_size)
        samples = _made_ahead(self._sampler.training, sequence, self._sampler.workers, BATCHES_AHEAD * size)
        yield from batches(samples, size)

    def _batches(self, epoch: int) -> tuple[int, int]:
        """The numbers of the first batch of an epoch and of the first batch of the next."""
        first, following = (first_batch(number, *self._whole) for number in (epoch, epoch + 1))
        return first, following

    def _sequence(self, start: int, stop: int) -> Iterator[IndexedPair]:
        """The share of the endless sequence of pairs from position `start` to before `stop`."""
        count = len(self._pairs)
        for epoch in range(start // count, -(-stop // count)):
            order, begin = self._order(epoch), epoch * count
            for position in range(max(start, begin), min(stop, begin + count)):
                if position % self._batch_size in self._part:
                    index = order[position - begin]
                    yield IndexedPair(epoch, index, self._pairs[index])

    def _order(self, epoch: int) -> Sequence[int]:
        count = len(self._pairs)
        if not self._shuffle:
            return range(count)
        order: list[int] = np.random.default_rng((self._sampler.seed, epoch)).permutation(count).tolist()
        return order


class ValidationLoader:
    """Every image once, in order: cropped to crop_size, or whole if batch_size is 1, as in the built-in algorithm.

    share: whose batches are made here.
    """

    def __init__(self, pairs: Sequence[Pair], sampler: Sampler, batch_size: int, share: Share = WHOLE) -> None:
        self._pairs = pairs
        self._sampler = sampler
        self._batch_size = batch_size
        self._share = share

    def iterations(self) -> int:
        """The number of batches, also of those that are not in this share."""
        return -(-len(self._pairs) // self._batch_size)

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:  # noqa: ARG002 - all epochs are the same
        """The batches; the last one may be smaller. Raises DataError with the name of the file."""
        numbered = enumerate(self._pairs)
        shared = ((index, pair) for index, pair in numbered if self._share.has(index // self._batch_size))
        sequence = (IndexedPair(0, index, pair) for index, pair in shared)
        make = partial(self._sampler.validation, whole=self._batch_size == 1)
        samples = _made_ahead(make, sequence, self._sampler.workers, BATCHES_AHEAD * self._batch_size)
        yield from batches(samples, self._batch_size)


def _made_ahead(
    make: _Make, sequence: Iterator[IndexedPair], workers: int, ahead: int
) -> Generator[Sample, None, None]:
    """The samples that `make` makes of pairs, about `ahead` of them before they are requested.

    Only a few are decoded at once, as each keeps its files in memory. Meanwhile threads read the files of the next
    `ahead` pairs, up to `AHEAD_BYTES`. Without workers everything is done on request.
    """
    making = min(2 * min(workers, usable_cores()), ahead)

    def produce(_: Callable[[], bool]) -> Generator[Sample, None, None]:
        readers = READERS if workers else 0
        with closing(map_in_order(_loaded, sequence, readers, ahead, _loaded_bytes, AHEAD_BYTES)) as pairs:
            yield from make(pairs, ahead=making)

    return read_ahead(produce, lambda _: 0, 0, ahead - making) if workers else produce(lambda: False)


def _loaded(indexed: IndexedPair) -> IndexedPair:
    return replace(indexed, pair=indexed.pair.loaded())


def _loaded_bytes(indexed: IndexedPair) -> int:
    return indexed.pair.loaded_bytes()
