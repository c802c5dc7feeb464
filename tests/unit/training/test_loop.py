from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event, Step
from semseg.training.loop import Fit
from semseg.training.stopping import EarlyStopping
from semseg.types import Arrays, Batch, UInt8


def batch(size: int) -> Batch:
    return Batch(np.zeros((size, 8, 8, 3), np.uint8), np.zeros((size, 8, 8), np.uint8))


@dataclass
class Pictures:
    """As many batches of two pictures as the list says for each epoch."""

    iterations_of: list[int]
    closed: int = 0

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        try:
            yield from (batch(2) for _ in range(self.iterations(epoch)))
        finally:
            self.closed += 1

    def iterations(self, epoch: int) -> int:
        return self.iterations_of[epoch % len(self.iterations_of)]


class Uncounted(Pictures):
    """Pictures for validation; nobody knows how many."""

    def iterations(self, epoch: int | None = None) -> Any:
        return None if epoch is None else super().iterations(epoch)


@dataclass
class FakeLearner:
    """Finds the right class in the given share of the pictures of each epoch; loss 2, then 1, 2, 1, ..."""

    right: list[float]
    rates: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    stop_at: int = -1
    stop: threading.Event = field(default_factory=threading.Event)
    evaluations: int = 0

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
        self.rates.append(learning_rate)
        self.seeds.append(seed)
        if len(self.rates) == self.stop_at:
            self.stop.set()
        return 2.0 - len(self.rates) % 2

    def evaluate(self, batch: Batch) -> UInt8:
        labels = np.zeros_like(batch.labels)
        labels[:, : int(8 * (1 - self.right[self.evaluations % len(self.right)]))] = 1
        self.evaluations += 1
        return labels

    def load(self, arrays: Arrays, origin: str) -> None:
        raise AssertionError

    def save(self, path: Path) -> None:
        raise AssertionError


def run(
    learner: FakeLearner,
    training: Pictures,
    epochs: int,
    early_stopping: EarlyStopping | None = None,
) -> tuple[list[Event], list[int]]:
    events: list[Event] = []
    kept: list[int] = []
    Fit(
        learner=learner,
        training=training,
        validation=Uncounted([1]),
        schedule=float,
        epochs=epochs,
        num_classes=2,
        seed=7,
        early_stopping=early_stopping,
        keep_best=lambda: kept.append(learner.evaluations),
        emit=events.append,
    ).run(learner.stop)
    return events, kept


def test_the_learning_rate_follows_the_updates_of_all_epochs() -> None:
    """Epochs of one and two iterations, as a remainder that rolls over makes them."""
    learner = FakeLearner([1.0])
    events, _ = run(learner, Pictures([1, 2]), epochs=3)
    assert learner.rates == [1.0, 2.0, 3.0, 4.0]
    assert [event.iteration for event in events if isinstance(event, Step) and event.phase == "training"] == [
        1,
        1,
        2,
        1,
    ]


def test_the_learning_rate_follows_the_batches_that_came() -> None:
    """A pipe may hold fewer than it was said to."""

    class Fewer(Pictures):
        def iterations(self, epoch: int) -> int:
            return 5

        def epoch(self, epoch: int) -> Generator[Batch, None, None]:
            yield from (batch(2) for _ in range(2))

    learner = FakeLearner([1.0])
    run(learner, Fewer([]), epochs=2)
    assert learner.rates == [1.0, 2.0, 3.0, 4.0]


def test_an_epoch_reports_the_mean_loss_and_the_last_rate() -> None:
    events, _ = run(FakeLearner([1.0]), Pictures([3]), epochs=1)
    trained = next(event for event in events if isinstance(event, EpochTrained))
    assert (trained.epoch, trained.learning_rate) == (0, 3.0)
    assert trained.loss == pytest.approx(4 / 3)
    assert trained.samples_per_second > 0


def test_validation_reports_the_originals_miou_and_the_present_classes() -> None:
    events, _ = run(FakeLearner([0.5]), Pictures([1]), epochs=1)
    validated = next(event for event in events if isinstance(event, EpochValidated))
    assert validated.pixel_accuracy == pytest.approx(0.5)
    assert validated.mean_iou == pytest.approx(0.25)  # class 1, absent from the annotations, counts as 0
    assert validated.mean_iou_present == pytest.approx(0.5)
    assert validated.iou == [pytest.approx(0.5), None]


def test_keeps_the_model_at_the_first_validation_and_at_each_improvement() -> None:
    """An mIOU of 0 at first is kept too, so that there is always a best model."""
    events, kept = run(FakeLearner([0.0, 0.5, 0.25, 1.0, 1.0]), Pictures([1]), epochs=5)
    assert kept == [1, 2, 4]
    assert [event.improved for event in events if isinstance(event, EpochEnded)] == [True, True, False, True, False]


def test_early_stopping_ends_the_run() -> None:
    learner = FakeLearner([1.0, 0.5])
    events, _ = run(learner, Pictures([1]), epochs=10, early_stopping=EarlyStopping(1, 2, 0.0))
    assert sum(isinstance(event, EpochEnded) for event in events) == 3


def test_steps_have_seeds_of_their_own_that_a_second_run_repeats() -> None:
    first, second = FakeLearner([1.0]), FakeLearner([1.0])
    run(first, Pictures([3]), epochs=2)
    run(second, Pictures([3]), epochs=2)
    assert first.seeds == second.seeds
    assert len(set(first.seeds)) == 6
    assert all(0 <= seed < 2**31 for seed in first.seeds)


def test_a_stop_in_training_ends_within_the_step_and_closes_the_loader() -> None:
    learner = FakeLearner([1.0], stop_at=2)
    training = Pictures([5])
    events, kept = run(learner, training, epochs=3)
    assert len(learner.rates) == 2
    assert training.closed == 1
    assert kept == []
    assert not any(isinstance(event, EpochTrained) for event in events)


def test_a_stop_while_waiting_for_a_batch_ends_the_run() -> None:
    """As a pipe does: it gives nothing any more."""
    learner = FakeLearner([1.0])
    learner.stop.set()
    events, kept = run(learner, Pictures([0]), epochs=3)
    assert events == []
    assert kept == []
    fit = Fit(learner, Pictures([1]), Uncounted([0]), float, 1, 2, 0, None, lambda: None, lambda _: None)
    assert fit._validate(0, learner.stop) is None


def test_a_stop_in_validation_ends_within_the_batch() -> None:
    learner = FakeLearner([1.0], stop_at=1)
    learner.stop.set()
    fit = Fit(learner, Pictures([1]), Uncounted([3]), float, 1, 2, 0, None, lambda: None, lambda _: None)
    assert fit._validate(0, learner.stop) is None
    assert learner.evaluations == 1
