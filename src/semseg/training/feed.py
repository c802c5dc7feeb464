"""Hands the ranks of a host what one of them reads: a pipe can be read only once.

The first rank of the host reads. In each round of the loop it sends each of the others one message, and each of these
takes one: a batch, or the end. So nothing waits in between when an epoch ends early, and a rank that is behind is
waited for. A batch is a header, JSON with its shape and names, followed by its pixels and its labels.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import ClassVar

import numpy as np

from semseg.data.pipe_loader import PipeTrainingLoader, PipeValidationLoader
from semseg.errors import GroupError
from semseg.types import Batch

_LARGEST_HEADER = 1 << 24
"""Bytes of a header, which has the names of a batch's images."""

_END = b"null"


@dataclass(frozen=True)
class Feed:
    """A rank's ends of the connections between the first rank of its host and the others.

    names: of all ranks of the host, in their order. others: of the first one, its connections to the others, in their
    order. first: of each other one, its connection to the first.
    """

    names: Sequence[str]
    others: Sequence[Connection] = ()
    first: Connection | None = None

    def dealt(self, rounds: Iterable[Iterator[Batch]]) -> Generator[Batch, None, None]:
        """Yields the first batch of each round, after it has sent the others to their ranks, in their order.

        A round may have fewer batches than the host has ranks: the epoch has ended for the last ones, which are sent
        the end. In the end all are. Raises GroupError if one of the ranks has left.
        """
        ended: set[int] = set()
        for batches in rounds:
            own = next(batches, None)
            if own is None:
                break
            for number in range(len(self.others)):
                self._send(number, next(batches, None), ended)
            yield own
        for number in range(len(self.others)):
            self._send(number, None, ended)

    def _send(self, number: int, batch: Batch | None, ended: set[int]) -> None:
        """Sends another rank its batch, or the end, once."""
        if number in ended:
            return
        if batch is None:
            ended.add(number)
        try:
            _send(self.others[number], batch)
        except OSError as error:
            raise GroupError(f"{self.names[number + 1]}, which gets its images from this rank, has left.") from error


@contextmanager
def connected(names: Sequence[str]) -> Iterator[list[Feed]]:
    """Yields the feeds of the ranks of a host, for their processes. This process's ends are closed after the block, so
    that each rank notices when one that it is connected with ends.
    """
    with ExitStack() as resources:
        pairs = [get_context("spawn").Pipe(duplex=False) for _ in names[1:]]
        for end in (end for pair in pairs for end in pair):
            resources.enter_context(end)
        others = [sender for _, sender in pairs]
        yield [Feed(names, others), *(Feed(names, first=receiver) for receiver, _ in pairs)]


@dataclass(frozen=True)
class FedTraining:
    """Training images from a pipe, of which each rank of the host gets its part of each batch.

    loader: makes the host's part, if this is the rank that reads. sizes: of the parts of the host's ranks.
    """

    loader: PipeTrainingLoader
    feed: Feed
    sizes: Sequence[int]
    seekable: ClassVar[bool] = False

    def iterations(self, epoch: int) -> int:
        """The number of batches of an epoch, if num_training_samples is correct."""
        return self.loader.iterations(epoch)

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        """The rank's part of each batch, which may be empty. Raises GroupError, and what the loader raises."""
        if self.feed.first:
            yield from _received(self.feed.first, self.feed.names[0])
            return
        with closing(self.loader.epoch(epoch, done)) as batches:
            yield from self.feed.dealt(_divided(batch, self.sizes) for batch in batches)


@dataclass(frozen=True)
class FedValidation:
    """Validation images from a pipe: the host's batches, by turns for each of its ranks.

    loader: makes them, if this is the rank that reads.
    """

    loader: PipeValidationLoader
    feed: Feed

    def iterations(self) -> int | None:
        """The number of batches in the stream's last completed pass; None before the first, and for other ranks."""
        return self.loader.iterations()

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """The rank's batches. Raises GroupError, and what the loader raises."""
        if self.feed.first:
            yield from _received(self.feed.first, self.feed.names[0])
            return
        with closing(self.loader.epoch(epoch)) as batches:
            yield from self.feed.dealt(_in_rounds(batches, len(self.feed.names)))


def _divided(batch: Batch, sizes: Sequence[int]) -> Iterator[Batch]:
    """Yields the parts of a batch, of these sizes, in their order."""
    end = 0
    for size in sizes:
        start, end = end, end + size
        yield Batch(batch.images[start:end], batch.labels[start:end], batch.names[start:end])


def _in_rounds(batches: Iterator[Batch], count: int) -> Iterator[Iterator[Batch]]:
    """Yields the batches in rounds of up to `count`, each of which is to be used up before the next; without end."""
    while True:
        yield islice(batches, count)


def _send(connection: Connection, batch: Batch | None) -> None:
    if batch is None:
        connection.send_bytes(_END)
        return
    connection.send_bytes(json.dumps([batch.labels.shape, batch.names]).encode())
    for array in (batch.images, batch.labels):
        connection.send_bytes(np.ascontiguousarray(array).reshape(-1).data)


def _received(connection: Connection, reader: str) -> Generator[Batch, None, None]:
    """Yields the batches that come until the end. Raises GroupError if the reader, which it names, has left."""
    try:
        while (batch := _receive(connection)) is not None:
            yield batch
    except (EOFError, OSError) as error:
        raise GroupError(f"{reader}, which reads the pipes of its host, has left.") from error


def _receive(connection: Connection) -> Batch | None:
    header = json.loads(connection.recv_bytes(_LARGEST_HEADER))
    if header is None:
        return None
    shape, names = header
    labels = np.empty(shape, np.uint8)
    images = np.empty((*shape, 3), np.uint8)
    for array in (images, labels):
        connection.recv_bytes_into(array.reshape(-1).data)
    return Batch(images, labels, tuple(names))
