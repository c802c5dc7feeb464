"""What one rank of a host reads, and the others get from it: ranks are threads here, their connections real."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pytest
from thread_group import as_ranks

from semseg.errors import GroupError
from semseg.training.feed import FedTraining, FedValidation, Feed, connected
from semseg.types import Batch

NAMES = ("Rank 4", "Rank 5", "Rank 6")
LARGE = 700
"""The height and width of images of which a connection cannot hold one."""


def batch_of(numbers: range, side: int = 4) -> Batch:
    images = np.empty((len(numbers), side, side, 3), np.uint8)
    images[:] = np.array(numbers, np.uint8)[:, None, None, None]
    return Batch(images, images[..., 0] + np.uint8(1), tuple(f"{number} ü.png" for number in numbers))


@dataclass
class Loader:
    """Batches of three images, or of `size`, the host's parts of such."""

    count: int
    size: int = 3
    side: int = 4
    closed: int = 0

    def iterations(self, epoch: int = 0) -> int:
        return self.count + epoch

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        try:
            for number in range(done, self.count):
                start = 100 * epoch + number * self.size
                yield batch_of(range(start, start + self.size), self.side)
        finally:
            self.closed += 1


def training(loader: Any, feed: Feed, sizes: tuple[int, ...] = (2, 1, 0)) -> FedTraining:
    return FedTraining(loader, feed, sizes)


def named(batches: Iterator[Batch]) -> list[tuple[str, ...]]:
    """The names of each batch's images, whose pixels must agree."""
    found = []
    for batch in batches:
        numbers = [int(name.split()[0]) for name in batch.names]
        expected = batch_of(range(numbers[0], numbers[-1] + 1) if numbers else range(0), batch.labels.shape[-1])
        np.testing.assert_array_equal(batch.images, expected.images)
        np.testing.assert_array_equal(batch.labels, expected.labels)
        found.append(batch.names)
    return found


@pytest.mark.parametrize("side", [4, LARGE])
def test_each_rank_gets_its_part_of_each_batch_in_each_epoch(side: int) -> None:
    """Also the one that has none, and batches that are larger than what a connection holds."""
    loader = Loader(3, side=side)
    with connected(NAMES) as feeds:

        def epochs(group: Any) -> list[list[tuple[str, ...]]]:
            data = training(loader, feeds[group.rank])
            assert data.iterations(1) == 4
            return [named(data.epoch(epoch)) for epoch in range(2)]

        found = as_ranks(3, epochs)
    for epoch in range(2):
        joined = [sum(parts, ()) for parts in zip(*(rank[epoch] for rank in found), strict=True)]
        assert joined == [batch.names for batch in loader.epoch(epoch)]
    assert [[len(part) for part in rank[0]] for rank in found] == [[2] * 3, [1] * 3, [0] * 3]


def test_what_is_received_can_be_written_as_what_is_read() -> None:
    """PyTorch warns of arrays that cannot."""
    with connected(NAMES[:2]) as feeds:
        batches = as_ranks(2, lambda group: next(training(Loader(1), feeds[group.rank], (2, 1)).epoch(0)))
    assert all(batch.images.flags.writeable and batch.labels.flags.writeable for batch in batches)


def test_an_epoch_that_all_end_early_leaves_nothing_for_the_next() -> None:
    """As when another host has no more batches."""
    loader = Loader(3)
    with connected(NAMES) as feeds:

        def epochs(group: Any) -> list[list[tuple[str, ...]]]:
            data = training(loader, feeds[group.rank])
            with closing(data.epoch(0)) as batches:
                first = named(islice(batches, 2))
            return [first, named(data.epoch(1))]

        found = as_ranks(3, epochs)
    assert [[len(epoch) for epoch in rank] for rank in found] == [[2, 3]] * 3
    assert found[1][1][0] == ("102 ü.png",)
    assert loader.closed == 2


@pytest.mark.parametrize("count", range(8))
def test_batches_of_validation_go_to_the_ranks_by_turns(count: int) -> None:
    with connected(NAMES) as feeds:

        def epochs(group: Any) -> list[list[tuple[str, ...]]]:
            data = FedValidation(Loader(count), feeds[group.rank])  # type: ignore[arg-type]
            return [named(data.epoch(epoch)) for epoch in range(2)]

        found = as_ranks(3, epochs)
    for epoch in range(2):
        names = [batch.names for batch in Loader(count).epoch(epoch)]
        assert [rank[epoch] for rank in found] == [names[rank::3] for rank in range(3)]


def test_a_reader_that_has_left_is_named() -> None:
    with connected(NAMES) as feeds:
        data = training(Loader(3), feeds[1]).epoch(0)
        for connection in feeds[0].others:
            connection.close()
        with pytest.raises(GroupError, match="Rank 4, which reads the pipes of its host, has left"):
            next(data)


def test_a_rank_that_has_left_is_named_and_the_stream_is_closed() -> None:
    loader = Loader(3)
    with connected(NAMES) as feeds:
        assert feeds[2].first
        feeds[2].first.close()
        with pytest.raises(GroupError, match="Rank 6, which gets its images from this rank, has left"):
            next(training(loader, feeds[0]).epoch(0))
    assert loader.closed == 1
