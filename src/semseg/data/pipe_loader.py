"""Makes batches from FIFOs: a thread reads the stream ahead while others decode and the network trains."""

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
"""The limits of the shuffle buffer, whose pairs are still encoded."""

_SHUFFLED_PART = 4
"""The shuffle buffer holds at most a quarter of an epoch, as decoding starts only when it is full."""

_QUEUED_BYTES = 64_000_000
_QUEUED_PAIRS = 1024


class PipeTrainingLoader:
    """Batches of equal size from one stream per epoch, as `loader.TrainingLoader` makes them from files.

    Epochs must be requested in order. Each reads the next FIFO, starting with ``<path>_0`` even if the first epoch is
    not 0: a restarted job gets new FIFOs. Pairs that do not fill a batch start the next epoch.

    path: the FIFOs' names without the number. num_training_samples: the expected number of pairs per epoch; batches are
    not larger, with a warning. stop: whether the job must end. shuffle: whether pairs are drawn at random from a buffer
    of the next ones; otherwise they keep their order. timeout: seconds without data after which an error is raised.
    part: the positions in each batch that are made here, all by default; there may be none. sharded: whether the stream
    has the pairs of this part alone, rather than those of whole batches; the number of pairs is then of all streams.
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
        part: range | None = None,
        sharded: bool = False,
    ) -> None:
        self._pipe = Pipe(path, stop, timeout)
        self._sampler = sampler
        self._batch_size = min(batch_size, num_training_samples)
        self._expected = num_training_samples
        self._shuffle = shuffle
        self._sharded = sharded
        part = range(self._batch_size) if part is None else part
        self._part = slice(0, len(part)) if sharded else slice(part.start, part.stop)
        self._made = len(part)
        self._taken = max(1, len(part)) if sharded else self._batch_size
        own = -(-num_training_samples * self._taken // self._batch_size)
        self._held = min(_SHUFFLED_PAIRS, -(-own // _SHUFFLED_PART))
        self._streams = count()
        self._carried: list[IndexedPair] = []
        self._warned = False
        if num_training_samples < batch_size:
            logger.warning(
                "num_training_samples is %d, mini_batch_size %d: each batch has only %d images, even if the "
                "pipe delivers more. If the manifest has more lines, set num_training_samples to their number.",
                num_training_samples,
                batch_size,
                num_training_samples,
            )

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, counted from 0, if num_training_samples is correct."""
        first, following = (first_batch(number, self._expected, self._batch_size) for number in (epoch, epoch + 1))
        return following - first

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:  # noqa: ARG002 - always 0: not seekable
        """The batches of an epoch, or their parts: images (N, crop, crop, 3).

        Ends early, perhaps without a batch, once `stop` returns true.
        Raises DataError, with the name of the record, for invalid data, or if the stream cannot fill a batch.
        """
        number, size = next(self._streams), self._made
        rng = np.random.default_rng((self._sampler.seed, epoch)) if self._shuffle else None
        with closing(_pairs(self._pipe, number, epoch, rng, self._held)) as pairs:
            full = self._full_batches(pairs, self._pipe.stream(number))
            if not size:
                yield from (self._sampler.empty_batch() for _ in full)
                return
            sequence = (indexed for batch in full for indexed in batch[self._part])
            yield from batches(self._sampler.training(sequence, BATCHES_AHEAD * size), size)

    def _full_batches(self, pairs: Iterable[IndexedPair], stream: str) -> Iterator[list[IndexedPair]]:
        """The pairs carried over and those of the stream, as far as they fill batches; the rest is carried over."""
        batch, self._carried = self._carried, []
        arrived = full = 0
        for indexed in pairs:
            arrived += 1
            batch.append(indexed)
            if len(batch) == self._taken:
                yield batch
                batch, full = [], full + 1
        self._carried = batch
        if not self._pipe.stop():
            self._require_full(full, arrived, stream)

    def _require_full(self, full: int, arrived: int, stream: str) -> None:
        """Raise DataError if there was no full batch; warn once if the number of samples is not the expected one."""
        if not full:
            raise DataError(
                f"{stream} held {arrived} samples, too few for one batch of {self._taken}; "
                f"num_training_samples is {self._expected}.",
                "Each host needs a part of each batch: use fewer hosts, a smaller mini_batch_size, or FullyReplicated."
                if self._sharded
                else "Set num_training_samples to the number of lines in the manifest.",
            )
        if arrived != self._expected and not self._sharded and not self._warned:
            self._warned = True
            logger.warning(
                "num_training_samples is %d, but %s held %d samples; the learning rate schedule follows "
                "num_training_samples.",
                self._expected,
                stream,
                arrived,
            )


class PipeValidationLoader:
    """Every pair of the next stream once, in order: cropped to crop_size, or whole if batch_size is 1.

    path, stop, timeout: as for `PipeTrainingLoader`. makes: whether a batch, by its number from 0, is made here.
    """

    def __init__(
        self,
        path: Path,
        sampler: Sampler,
        batch_size: int,
        stop: Callable[[], bool],
        timeout: float = TIMEOUT,
        makes: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._pipe = Pipe(path, stop, timeout)
        self._sampler = sampler
        self._batch_size = batch_size
        self._makes = makes
        self._streams = count()
        self._iterations: int | None = None

    def iterations(self) -> int | None:
        """The number of batches in the last completed pass; None before the first."""
        return self._iterations

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:  # noqa: ARG002 - all epochs are the same
        """The batches; the last one may be smaller. Ends early, perhaps without a batch, once `stop` returns true.

        Raises DataError with the name of the record.
        """
        number, ahead = next(self._streams), BATCHES_AHEAD * self._batch_size
        with closing(_pairs(self._pipe, number, 0, None)) as pairs:
            counted = self._counted(pairs)
            sequence = (indexed for indexed in counted if self._makes(indexed.index // self._batch_size))
            yield from batches(self._sampler.validation(sequence, self._batch_size == 1, ahead), self._batch_size)

    def _counted(self, pairs: Iterable[IndexedPair]) -> Iterator[IndexedPair]:
        arrived = 0
        for indexed in pairs:
            arrived += 1
            yield indexed
        if not self._pipe.stop():
            self._iterations = -(-arrived // self._batch_size)


def _pairs(
    pipe: Pipe, number: int, epoch: int, rng: np.random.Generator | None, held: int = 0
) -> Generator[IndexedPair, None, None]:
    """The pairs of a stream, read by a separate thread; with an `rng`, it shuffles them in a buffer of `held` pairs."""

    def produce(cancelled: Callable[[], bool]) -> Generator[IndexedPair, None, None]:
        with closing(pipe.pairs(number, cancelled)) as pairs:
            indexed = (IndexedPair(epoch, index, pair) for index, pair in enumerate(pairs))
            yield from indexed if rng is None else shuffled(indexed, _bytes_of, rng, _SHUFFLED_BYTES, held)

    return read_ahead(produce, _bytes_of, _QUEUED_BYTES, _QUEUED_PAIRS)


def _bytes_of(indexed: IndexedPair) -> int:
    return len(indexed.pair.image.read()) + len(indexed.pair.mask.read())
