"""From FIFOs to batches: a thread reads the stream ahead while others decode and the network learns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np

from semseg.data.pipe import TIMEOUT, Pipe
from semseg.data.samples import BATCHES_AHEAD, IndexedPair, Sampler, batches, first_batch
from semseg.data.shuffle import shuffled
from semseg.data.threads import read_ahead
from semseg.errors import DataError
from semseg.types import Batch

logger = logging.getLogger("semseg")

_SHUFFLED_BYTES = 256_000_000
_SHUFFLED_PAIRS = 4096
"""What is held back at most, still encoded, to draw the next pair from."""

_SHUFFLED_PART = 4
"""Nor is more held back than this part of an epoch: nothing is decoded before."""

_QUEUED_BYTES = 64_000_000
_QUEUED_PAIRS = 1024


class PipeTrainingLoader:
    """Batches of equal size from one stream per epoch, as `loader.TrainingLoader` makes them from files.

    The epochs must follow one another. Each reads the next FIFO, ``<path>_0`` first, whatever its own number: a job
    that is restarted gets new FIFOs. What does not fill a batch opens the next epoch.

    path: what the FIFOs' names begin with. num_training_samples: the pairs of an epoch, as far as known; batches are
    no larger, of which a warning tells. stop: whether the job was told to end. shuffle: whether each pair is drawn from
    a buffer of those that come next; else they keep their order. timeout: seconds without data that are an error.
    """

    seekable = False

    def __init__(
        self,
        path: Path,
        sampler: Sampler,
        batch_size: int,
        num_training_samples: int,
        stop: Callable[[], bool],
        shuffle: bool = True,
        timeout: float = TIMEOUT,
    ) -> None:
        self._pipe = Pipe(path, stop, timeout)
        self._sampler = sampler
        self._batch_size = min(batch_size, num_training_samples)
        self._expected = num_training_samples
        self._shuffle = shuffle
        self._held = min(_SHUFFLED_PAIRS, -(-num_training_samples // _SHUFFLED_PART))
        self._streams = count()
        self._carried: list[IndexedPair] = []
        self._warned = False
        if num_training_samples < batch_size:
            logger.warning(
                "num_training_samples is %d, mini_batch_size %d: each batch has %d pictures only, however many the "
                "pipe brings. If the manifest has more lines, set num_training_samples to their number.",
                num_training_samples,
                batch_size,
                num_training_samples,
            )

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, counted from 0, if num_training_samples is right."""
        first, following = (first_batch(number, self._expected, self._batch_size) for number in (epoch, epoch + 1))
        return following - first

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:  # noqa: ARG002 - always 0: not seekable
        """The batches of an epoch: images (N, crop, crop, 3).

        Once `stop` is true it ends early, with few batches or none.
        Raises DataError naming the record, or telling that the stream cannot fill a batch.
        """
        number, ahead = next(self._streams), BATCHES_AHEAD * self._batch_size
        rng = np.random.default_rng((self._sampler.seed, epoch)) if self._shuffle else None
        with closing(_places(self._pipe, number, epoch, rng, self._held)) as places:
            row = self._full_batches(places, self._pipe.stream(number))
            yield from batches(self._sampler.training(row, ahead), self._batch_size)

    def _full_batches(self, places: Iterable[IndexedPair], stream: str) -> Iterator[IndexedPair]:
        """What was carried over and the stream's places, as far as they fill batches; the rest is carried over."""
        batch, self._carried = self._carried, []
        arrived = full = 0
        for place in places:
            arrived += 1
            batch.append(place)
            if len(batch) == self._batch_size:
                yield from batch
                batch, full = [], full + 1
        self._carried = batch
        if not self._pipe.stop():
            self._require_full(full, arrived, stream)

    def _require_full(self, full: int, arrived: int, stream: str) -> None:
        """Raise DataError if there was no full batch; warn, once, of another number of samples than expected."""
        if not full:
            raise DataError(
                f"{stream} held {arrived} samples, too few for one batch of {self._batch_size}; "
                f"num_training_samples is {self._expected}.",
                "Set num_training_samples to the number of the manifest's lines.",
            )
        if arrived != self._expected and not self._warned:
            self._warned = True
            logger.warning(
                "num_training_samples is %d, but %s held %d samples; the learning rate schedule follows "
                "num_training_samples.",
                self._expected,
                stream,
                arrived,
            )


class PipeValidationLoader:
    """Every pair of the next stream once, in order: cut to crop_size, or, with batch_size 1, whole and alone.

    path, stop, timeout: as for `PipeTrainingLoader`.
    """

    def __init__(
        self, path: Path, sampler: Sampler, batch_size: int, stop: Callable[[], bool], timeout: float = TIMEOUT
    ) -> None:
        self._pipe = Pipe(path, stop, timeout)
        self._sampler = sampler
        self._batch_size = batch_size
        self._streams = count()
        self._iterations: int | None = None

    def iterations(self) -> int | None:
        """The number of batches of the latest pass that came to its end; None before."""
        return self._iterations

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:  # noqa: ARG002 - the same in each
        """The batches: the last one may be short. Once `stop` is true it ends early, with few batches or none.

        Raises DataError naming the record.
        """
        number, ahead = next(self._streams), BATCHES_AHEAD * self._batch_size
        with closing(_places(self._pipe, number, 0, None)) as places:
            row = self._counted(places)
            yield from batches(self._sampler.validation(row, self._batch_size == 1, ahead), self._batch_size)

    def _counted(self, places: Iterable[IndexedPair]) -> Iterator[IndexedPair]:
        arrived = 0
        for place in places:
            arrived += 1
            yield place
        if not self._pipe.stop():
            self._iterations = -(-arrived // self._batch_size)


def _places(
    pipe: Pipe, number: int, epoch: int, rng: np.random.Generator | None, held: int = 0
) -> Generator[IndexedPair, None, None]:
    """The pairs of a stream, read by a thread of its own, and shuffled there, `held` at once, if there is an `rng`."""

    def produce(cancelled: Callable[[], bool]) -> Generator[IndexedPair, None, None]:
        with closing(pipe.pairs(number, cancelled)) as pairs:
            places = (IndexedPair(epoch, index, pair) for index, pair in enumerate(pairs))
            yield from places if rng is None else shuffled(places, _bytes_of, rng, _SHUFFLED_BYTES, held)

    return read_ahead(produce, _bytes_of, _QUEUED_BYTES, _QUEUED_PAIRS)


def _bytes_of(place: IndexedPair) -> int:
    return len(place.pair.image.read()) + len(place.pair.mask.read())
