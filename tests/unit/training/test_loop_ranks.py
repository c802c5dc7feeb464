"""The loop on two and three ranks, threads here, each with its part of the data."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fake_backend import OnHost
from thread_group import ThreadGroup, as_ranks

from semseg.data.shares import Share
from semseg.engines.group import ALONE, Group
from semseg.errors import DataError, GroupError, Stopped
from semseg.reporting.events import Compared, Counted, EpochEnded, Event, Step
from semseg.training.loop import Fit
from semseg.training.progress import Progress
from semseg.types import IGNORED, Batch, UInt8


def batch_of(numbers: range, height: int = 4) -> Batch:
    """Images whose pixels all have their number; of the odd ones, a part is ignored."""
    values = np.array(numbers, np.uint8)[:, None, None]
    labels = np.broadcast_to(values % 3, (len(numbers), height, 4)).copy()
    labels[np.array(numbers, int) % 2 == 1, 0] = IGNORED
    images = np.broadcast_to(values[..., None], (len(numbers), height, 4, 3)).copy()
    return Batch(images, labels, tuple(map(str, numbers)))


@dataclass
class Images:
    """Twelve images in batches of `size`; `cut_at`: a batch that this rank does not get."""

    share: Share
    size: int = 5
    seekable: bool = True
    cut_at: int = -1
    fails_at: int = -1

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        for number in range(done, self.iterations(epoch)):
            if number == self.fails_at:
                raise DataError("b.png is damaged.")
            if number == self.cut_at:
                return
            part = self.share.of(self.size)
            yield batch_of(range(number * self.size + part.start, number * self.size + part.stop))

    def iterations(self, epoch: int) -> int:
        return 12 // self.size


@dataclass
class Validated:
    """Eleven images of different heights, one a batch."""

    share: Share

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        yield from (batch_of(range(n, n + 1), height=2 + n) for n in range(11) if self.share.has(n))

    def iterations(self) -> int | None:
        return 11


@dataclass
class Learner(OnHost):
    """The loss is the mean of the numbers of all ranks' images; every third image is predicted wrong."""

    group: Group
    seen: list[Any] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    stop_at: int = -1
    evaluations: int = 0

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
        pair = np.array([batch.images[:, 0, 0, 0].sum(), len(batch)], np.float64)
        total, count = self.group.sum(pair)
        self.seen.append((batch.names, learning_rate, seed))
        if len(self.seen) == self.stop_at:
            self.stop.set()
        return float(total / count)

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        self.evaluations += 1
        if len(self.seen) + self.evaluations == self.stop_at:
            self.stop.set()
        wrong = batch.images[:, 0, 0, 0] % 3 == 0
        return (batch.images[..., 0] + wrong[:, None, None]) % 3, float(batch.images[0, 0, 0, 0])

    def logits(self, *_: Any) -> Any:
        raise AssertionError

    load = parameters = state = restore = logits


@dataclass
class Run:
    """What one rank's loop has done."""

    learner: Learner
    training: Images
    events: list[Event] = field(default_factory=list)
    saved: list[Progress] = field(default_factory=list)
    error: BaseException | None = None


def run(
    group: Group,
    epochs: int = 2,
    seconds: float = math.inf,
    stop_at: int = -1,
    stop: threading.Event | None = None,
    **changes: Any,
) -> Run:
    """Runs the loop as one rank; stop_at: the step or evaluation at which it is to stop, 0 for at once."""
    share = Share(group.rank, group.size)
    done = Run(Learner(group, stop=stop or threading.Event(), stop_at=stop_at), Images(share, **changes))
    if stop_at == 0:
        done.learner.stop.set()
    fit = Fit(
        learner=done.learner,
        training=done.training,
        validation=Validated(share),
        schedule=float,
        epochs=epochs,
        num_classes=3,
        seed=7,
        early_stopping=None,
        keep_best=lambda: None,
        emit=done.events.append,
        checkpoint=done.saved.append,
        checkpoint_seconds=seconds,
        group=group,
    )
    try:
        fit.run(done.learner.stop)
    except Stopped as stopped:
        done.error = stopped
    return done


def timeless(events: list[Event]) -> list[Any]:
    """The events without what is measured in seconds."""

    def cleared(value: Any) -> Any:
        names = {field.name for field in dataclasses.fields(value)}
        clocks = {name: 0.0 for name in ("samples_per_second", "waiting") if name in names}
        inner = {name: cleared(getattr(value, name)) for name in ("trained", "validated") if name in names}
        return dataclasses.replace(value, **clocks, **inner)

    return [
        event.matrix.counts.tolist() if isinstance(event, Counted) else cleared(event)
        for event in events
        if not isinstance(event, Compared)  # which is of a rank's own part
    ]


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_rank_sees_what_one_process_sees(ranks: int) -> None:
    """Numbers of images, losses, scores and steps; only each batch is parted."""
    alone, found = run(ALONE), as_ranks(ranks, run)
    assert [timeless(one.events) for one in found] == [timeless(alone.events)] * ranks
    parted = zip(*(one.learner.seen for one in found), strict=True)
    joined = [(sum((names for names, *_ in step), ()), *step[0][1:]) for step in parted]
    assert joined == alone.learner.seen
    assert sum(one.learner.evaluations for one in found) == alone.learner.evaluations


def test_an_empty_part_of_a_batch_is_trained_too() -> None:
    """One image for three ranks: two of them take part without any."""
    found = as_ranks(3, lambda group: run(group, epochs=1, size=1))
    steps = [event for event in found[2].events if isinstance(event, Step) and event.phase == "training"]
    assert [(step.samples, step.loss) for step in steps] == [(1, float(number)) for number in range(12)]
    assert {names for names, *_ in found[2].learner.seen} == {()}


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stop_of_one_rank_is_one_of_all_after_the_same_step(stopped: int) -> None:
    found = as_ranks(2, lambda group: run(group, stop_at=1 if group.rank == stopped else -1))
    assert [len(one.learner.seen) for one in found] == [1, 1]
    assert all(one.learner.stop.is_set() for one in found)
    assert [[saved.iteration for saved in one.saved] for one in found] == [[1], [1]]


def test_a_stop_in_validation_does_not_wait_for_its_end() -> None:
    """Two training steps, then the first round of validation: one image each."""
    found = as_ranks(3, lambda group: run(group, stop_at=3 if group.rank == 2 else -1))
    assert [one.learner.evaluations for one in found] == [1, 1, 1]
    assert [one.saved[-1].trained is not None for one in found] == [True] * 3


class SetAfterAnAnswer(threading.Event):
    """Is set, as by a signal, right after it has answered that it is not, for the n-th time."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left = answers

    def is_set(self) -> bool:
        found, self.left = super().is_set(), self.left - 1
        if self.left == 0:
            self.set()
        return found


@pytest.mark.parametrize("answers", range(2, 8))
def test_a_stop_that_comes_while_the_ranks_agree_is_one_of_the_next_time(answers: int) -> None:
    stops = [threading.Event(), SetAfterAnAnswer(answers)]
    one, other = as_ranks(2, lambda group: run(group, stop=stops[group.rank]))
    assert len(one.learner.seen) == len(other.learner.seen)
    ends = [[(saved.epoch, saved.iteration, saved.trained is None) for saved in rank.saved] for rank in (one, other)]
    assert ends[0] == ends[1]


def test_a_stop_before_the_first_step_trains_nothing_on_any_rank() -> None:
    found = as_ranks(2, lambda group: run(group, stop_at=0 if group.rank == 1 else -1))
    assert [one.learner.seen for one in found] == [[], []]
    assert all(isinstance(one.error, Stopped) for one in found)


def test_rank_0s_clock_says_when_all_ranks_save() -> None:
    """The others' clocks would never. In validation, of which nothing is saved, it need not ask them."""
    found = as_ranks(2, lambda group: run(group, epochs=1, seconds=0.0 if group.rank == 0 else math.inf))
    assert [[saved.iteration for saved in one.saved] for one in found] == [[1, 2, 2, 0], [1, 2, 0]]
    found = as_ranks(2, lambda group: run(group, epochs=1, seconds=math.inf if group.rank == 0 else 0.0))
    assert [saved.iteration for saved in found[0].saved] == [0]


def test_an_early_end_of_one_ranks_data_ends_the_epoch_of_all() -> None:
    found = as_ranks(2, lambda group: run(group, epochs=1, size=2, cut_at=4 if group.rank == 1 else -1))
    assert [len(one.learner.seen) for one in found] == [4, 4]
    assert [[event.trained.iterations for event in one.events if isinstance(event, EpochEnded)] for one in found] == [
        [4],
        [4],
    ]


def test_the_error_of_one_rank_is_a_group_error_of_the_others() -> None:
    errors: dict[int, BaseException] = {}

    def failing(group: ThreadGroup) -> None:
        try:
            run(group, fails_at=1 if group.rank == 0 else -1)
        except (DataError, GroupError) as error:
            errors[group.rank] = error
            group.leave()

    as_ranks(3, failing)
    assert [type(errors[rank]) for rank in range(3)] == [DataError, GroupError, GroupError]
