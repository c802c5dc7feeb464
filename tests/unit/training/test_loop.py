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

from semseg.errors import DivergedError, Stopped
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Event, Step
from semseg.training.loop import Fit
from semseg.training.progress import BEGINNING, Progress
from semseg.training.stopping import EarlyStopping
from semseg.types import IGNORED, Arrays, Batch, Float32, UInt8

TRAINED = EpochTrained(0, 1, 1.0, 1.0, 1.0, 0.0)


def batch(size: int) -> Batch:
    return Batch(np.zeros((size, 8, 8, 3), np.uint8), np.zeros((size, 8, 8), np.uint8))


@dataclass
class Images:
    """Batches of two images; the list gives their number in each epoch."""

    iterations_of: list[int]
    closed: int = 0
    seekable: bool = True

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        try:
            yield from (batch(2) for _ in range(done, self.iterations(epoch)))
        finally:
            self.closed += 1

    def iterations(self, epoch: int) -> int:
        return self.iterations_of[epoch % len(self.iterations_of)]


class Uncounted(Images):
    """Validation images of unknown number."""

    def iterations(self, epoch: int | None = None) -> Any:
        return None if epoch is None else super().iterations(epoch)


@dataclass
class FakeLearner(OnHost):
    """Predicts the right class for a share of pixels, one entry of `right` an evaluation; its losses are 1, 2, 1, 2."""

    right: list[float]
    rates: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    stop_at: int = -1
    stop: threading.Event = field(default_factory=threading.Event)
    evaluations: int = 0
    begun_with: int = 0

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
        self.rates.append(learning_rate)
        self.seeds.append(seed)
        if len(self.rates) == self.stop_at:
            self.stop.set()
        return 2.0 - (self.begun_with + len(self.rates)) % 2

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        labels = np.zeros_like(batch.labels)
        labels[:, : int(8 * (1 - self.right[self.evaluations % len(self.right)]))] = 1
        self.evaluations += 1
        return labels, float(self.evaluations)

    def logits(self, images: Float32) -> Float32:
        raise AssertionError

    def load(self, arrays: Arrays, origin: str) -> None:
        raise AssertionError

    def parameters(self) -> Arrays:
        raise AssertionError

    def state(self) -> Arrays:
        raise AssertionError

    def restore(self, arrays: Arrays, origin: str) -> None:
        raise AssertionError


@dataclass
class Run:
    """Records a run of the loop: `kept` has the evaluations before each best model, `saved` the checkpoints."""

    events: list[Event] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    saved: list[Progress] = field(default_factory=list)

    def of(self, kind: type[Any], phase: str | None = None) -> list[Any]:
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if phase in (None, getattr(event, "phase", None))]


def run(
    learner: FakeLearner,
    training: Images,
    epochs: int,
    early_stopping: EarlyStopping | None = None,
    validation: Uncounted | None = None,
    progress: Progress = BEGINNING,
    checkpoint_seconds: float = math.inf,
) -> Run:
    done = Run()
    fit = fit_of(learner, training, epochs, validation)
    dataclasses.replace(
        fit,
        early_stopping=early_stopping,
        keep_best=lambda: done.kept.append(learner.evaluations),
        emit=done.events.append,
        checkpoint=done.saved.append,
        checkpoint_seconds=checkpoint_seconds,
    ).run(learner.stop, progress)
    return done


def fit_of(learner: FakeLearner, training: Images, epochs: int = 1, validation: Uncounted | None = None) -> Fit:
    return Fit(
        learner=learner,
        training=training,
        validation=validation or Uncounted([1]),
        schedule=float,
        epochs=epochs,
        num_classes=2,
        seed=7,
        early_stopping=None,
        keep_best=lambda: None,
        emit=lambda _: None,
    )


def test_the_learning_rate_follows_the_updates_of_all_epochs() -> None:
    """Epochs of one and two iterations, as with a remainder that rolls over."""
    learner = FakeLearner([1.0])
    done = run(learner, Images([1, 2]), epochs=3)
    assert learner.rates == [1.0, 2.0, 3.0, 4.0]
    assert [step.iteration for step in done.of(Step, "training")] == [1, 1, 2, 1]


def test_the_learning_rate_follows_the_batches_that_came() -> None:
    """A pipe may deliver fewer images than announced."""

    class Fewer(Images):
        def iterations(self, epoch: int) -> int:
            return 5

        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            yield from (batch(2) for _ in range(2))

    learner = FakeLearner([1.0])
    run(learner, Fewer([]), epochs=2)
    assert learner.rates == [1.0, 2.0, 3.0, 4.0]


def test_an_epoch_reports_the_mean_loss_and_the_last_rate() -> None:
    (trained,) = run(FakeLearner([1.0]), Images([3]), epochs=1).of(EpochTrained)
    assert (trained.epoch, trained.learning_rate) == (0, 3.0)
    assert trained.loss == pytest.approx(4 / 3)
    assert trained.samples_per_second > 0


def test_an_epoch_reports_how_long_it_waited_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that advances three seconds a batch and one a step, and a restart in between."""
    now = 0.0

    class Slow(Images):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            nonlocal now
            for found in super().epoch(epoch, done):
                now += 3
                yield found

    class Busy(FakeLearner):
        def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
            nonlocal now
            now += 1
            return super().train_step(batch, learning_rate, seed)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    first = run(Busy([1.0], stop_at=2), Slow([5]), epochs=1)
    now += 1000
    (trained,) = run(Busy([1.0]), Slow([5]), 1, progress=first.saved[-1]).of(EpochTrained)
    assert (trained.waiting, trained.samples_per_second) == (0.75, 0.5)


def test_validation_reports_the_originals_miou_and_the_present_classes() -> None:
    (validated,) = run(FakeLearner([0.5]), Images([1]), epochs=1).of(EpochValidated)
    assert validated.pixel_accuracy == pytest.approx(0.5)
    assert validated.mean_iou == pytest.approx(0.25)  # class 1, absent from the annotations, counts as 0
    assert validated.mean_iou_present == pytest.approx(0.5)
    assert validated.iou == [pytest.approx(0.5), None]


def test_the_validation_loss_is_the_mean_over_the_pixels_that_count() -> None:
    """Batches of losses 1 and 2; in the second, a quarter of the pixels are ignored."""

    class Two(Uncounted):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            yield batch(2)
            second = batch(2)
            second.labels[:, :2] = IGNORED
            yield second

    (validated,) = run(FakeLearner([1.0]), Images([1]), 1, validation=Two([2])).of(EpochValidated)
    assert validated.loss == pytest.approx((1 * 4 + 2 * 3) / 7)


def test_keeps_the_model_at_the_first_validation_and_at_each_improvement() -> None:
    """A first mIOU of 0 is kept too, so that there is always a best model."""
    done = run(FakeLearner([0.0, 0.5, 0.25, 1.0, 1.0]), Images([1]), epochs=5)
    assert done.kept == [1, 2, 4]
    assert [epoch.improved for epoch in done.of(EpochEnded)] == [True, True, False, True, False]


def test_early_stopping_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="semseg")
    learner = FakeLearner([1.0, 0.5])
    done = run(learner, Images([1]), epochs=10, early_stopping=EarlyStopping(1, 2, 0.0))
    assert len(done.of(EpochEnded)) == 3
    again = run(FakeLearner([0.9]), Images([1]), 10, EarlyStopping(1, 2, 0.0), progress=done.saved[-1])
    assert again.events == []  # a restart knows of it
    said = "Early stopping after 3 epochs: the best mIOU is 0.5 and has not improved enough in 2 epochs"
    told = [message.split(" (")[0] for message in caplog.messages if message.startswith("Early")]
    assert told == [said, said]


def test_steps_have_seeds_of_their_own_that_a_second_run_repeats() -> None:
    first, second = FakeLearner([1.0]), FakeLearner([1.0])
    run(first, Images([3]), epochs=2)
    run(second, Images([3]), epochs=2)
    assert first.seeds == second.seeds
    assert len(set(first.seeds)) == 6
    assert all(0 <= seed < 2**31 for seed in first.seeds)


def test_a_stop_in_training_ends_within_the_step_and_closes_the_loader() -> None:
    learner = FakeLearner([1.0], stop_at=2)
    training = Images([5])
    done = run(learner, training, epochs=3)
    assert len(learner.rates) == 2
    assert training.closed == 1
    assert done.kept == []
    assert not done.of(EpochTrained)
    assert [progress.iteration for progress in done.saved] == [2]


@pytest.mark.parametrize("source", [Stopped, None], ids=["that of files", "that of a pipe"])
def test_a_stop_while_waiting_for_a_batch_ends_the_run(source: type[Stopped] | None) -> None:
    """Files that are not available yet raise Stopped; a pipe just ends."""
    learner = FakeLearner([1.0])

    class Waiting(Uncounted):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            yield from super().epoch(epoch, done)
            learner.stop.set()
            if source:
                raise source

    done = run(learner, Waiting([2]), epochs=3)
    assert len(learner.rates) == 2
    assert not done.of(EpochTrained)
    assert [progress.iteration for progress in done.saved] == [2]
    learner.stop.clear()
    trained = Progress(iteration=1, trained=TRAINED)
    done = run(learner, Images([0]), epochs=3, validation=Waiting([1]), progress=trained)
    assert not done.of(EpochValidated)
    assert done.saved == [trained]


@pytest.mark.parametrize("source", [Stopped, None], ids=["that of files", "that of a pipe"])
def test_a_stop_before_the_first_batch_of_all_leaves_nothing_to_save(source: type[Stopped] | None) -> None:
    learner = FakeLearner([1.0])

    class Waiting(Uncounted):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            learner.stop.set()
            if source:
                raise source
            yield from ()

    with pytest.raises(Stopped):
        run(learner, Waiting([0]), epochs=3)
    learner.stop.clear()
    before = run(FakeLearner([1.0]), Images([1]), epochs=1).saved[-1]
    assert run(learner, Waiting([0]), epochs=3, progress=before) == Run()


def test_a_stop_before_the_run_leaves_everything_as_it_is() -> None:
    learner, training = FakeLearner([1.0]), Images([2])
    learner.stop.set()
    assert run(learner, training, epochs=3, progress=Progress(iteration=1), checkpoint_seconds=0) == Run()
    with pytest.raises(Stopped):
        run(learner, training, epochs=3)
    assert (learner.rates, training.closed) == ([], 0)


def test_a_stop_in_validation_ends_within_the_batch() -> None:
    """The pass over the training data is done by then: a restart begins with the validation."""
    learner = FakeLearner([1.0], stop_at=2)
    first = run(learner, Images([2]), epochs=1, validation=Uncounted([3]))
    assert (learner.evaluations, len(first.saved)) == (0, 1)
    learner = FakeLearner([1.0])

    class Stopping(Uncounted):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            yield batch(2)
            learner.stop.set()
            yield batch(2)
            yield batch(2)

    first = run(learner, Images([2]), epochs=1, validation=Stopping([3]))
    assert learner.evaluations == 2
    assert not first.of(EpochValidated)
    (saved,) = first.saved
    second = FakeLearner([1.0])
    done = run(second, Images([2]), epochs=1, progress=saved)
    assert second.rates == []
    assert done.of(EpochEnded)[0].trained == first.of(EpochTrained)[0]


def test_each_epoch_and_each_so_many_seconds_end_with_a_checkpoint() -> None:
    done = run(FakeLearner([1.0]), Images([2, 1]), epochs=2)
    assert [(progress.epoch, progress.iteration) for progress in done.saved] == [(1, 0), (2, 0)]
    assert done.saved[-1].ended == tuple(done.of(EpochEnded))
    done = run(FakeLearner([1.0]), Images([2, 1]), epochs=2, checkpoint_seconds=0)
    places = [(progress.epoch, progress.iteration, progress.trained is not None) for progress in done.saved]
    first = (0, 1, False), (0, 2, False), (0, 2, True), (1, 0, False)
    assert places == [*first, (1, 1, False), (1, 1, True), (2, 0, False)]


def test_what_comes_through_a_pipe_is_not_left_in_the_midst() -> None:
    learner = FakeLearner([1.0], stop_at=4)
    done = run(learner, Images([3], seekable=False), epochs=2, checkpoint_seconds=0)
    assert [(progress.epoch, progress.iteration) for progress in done.saved] == [(0, 3), (1, 0)]
    assert done.saved[0].trained == done.of(EpochTrained)[0]


@pytest.mark.parametrize(
    ("steps", "seekable", "places"),
    [
        (3, True, [(0, 3, 5), (1, 0, 20)]),
        (3, False, [(0, 3, 5), (1, 0, 20)]),
        (9, True, [(0, 8, 0), (0, 9, 7), (1, 0, 20)]),
        (9, False, [(0, 9, 0), (1, 0, 20)]),
    ],
)
def test_a_pass_over_the_training_data_is_saved_during_a_long_validation(
    steps: int, seekable: bool, places: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that advances by a second a step and a validation batch, and checkpoints after 8 seconds.

    A place is the epoch, the iteration, and how many of the 20 validation batches were done when it was saved. What
    comes through a pipe, which is not seekable, is not saved before the end of the pass.
    """
    now = 0.0

    class Timed(FakeLearner):
        def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
            nonlocal now
            now += 1
            return super().train_step(batch, learning_rate, seed)

        def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
            nonlocal now
            now += 1
            return super().evaluate(batch)

    saved: list[tuple[int, int, int]] = []

    def checkpoint(progress: Progress) -> None:
        saved.append((progress.epoch, progress.iteration, learner.evaluations))

    monkeypatch.setattr("time.perf_counter", lambda: now)
    learner = Timed([1.0])
    fit = fit_of(learner, Images([steps], seekable=seekable), validation=Uncounted([20]))
    dataclasses.replace(fit, checkpoint=checkpoint, checkpoint_seconds=8).run(learner.stop)
    assert saved == places


@pytest.mark.parametrize("number", range(10))
def test_a_run_goes_on_from_any_checkpoint(number: int) -> None:
    """Rates, seeds, events and kept models are the same as in a single run."""
    right = [0.5, 1.0, 0.75]
    straight = FakeLearner(right)
    expected = run(straight, Images([1, 2]), epochs=3, checkpoint_seconds=0)
    assert len(expected.saved) == 10
    progress = expected.saved[number]
    second = FakeLearner(right[progress.epoch :], begun_with=progress.updates)
    done = run(second, Images([1, 2]), epochs=3, progress=progress)
    assert second.rates == straight.rates[progress.updates :]
    assert second.seeds == straight.seeds[progress.updates :]
    assert [told(epoch) for epoch in done.of(EpochEnded)] == [
        told(epoch) for epoch in expected.of(EpochEnded)[progress.epoch :]
    ]


def told(epoch: EpochEnded) -> tuple[Any, ...]:
    """Returns an epoch without its speeds."""
    trained = epoch.trained.iterations, epoch.trained.loss, epoch.trained.learning_rate
    return epoch.trained.epoch, *trained, epoch.validated.mean_iou, epoch.improved


class Waiting:
    """A loss that the device is still computing; `asked` records after how many started steps it is read."""

    def __init__(self, value: float, learner: SlowLearner) -> None:
        self.value = value
        self.learner = learner

    def __float__(self) -> float:
        self.learner.asked.append(len(self.learner.rates))
        return self.value


@dataclass
class SlowLearner(FakeLearner):
    """Its losses are read later; the last of `values` repeats."""

    values: tuple[float, ...] = (1.0,)
    asked: list[int] = field(default_factory=list)

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> Any:
        super().train_step(batch, learning_rate, seed)
        return Waiting(self.values[min(len(self.rates), len(self.values)) - 1], self)


def test_a_loss_is_waited_for_when_the_next_step_has_begun() -> None:
    learner = SlowLearner([1.0], values=(3.0, 2.0, 1.0))
    (trained,) = run(learner, Images([3]), epochs=1).of(EpochTrained)
    assert learner.asked == [2, 3, 3]
    assert trained.loss == 2.0


def test_a_step_is_reported_with_its_loss_once_that_is_known() -> None:
    """Each is read while the next step runs, and the last before the epoch ends; validation has none."""
    learner, seen = SlowLearner([1.0], values=(3.0, 2.0, 1.0)), list[tuple[Any, ...]]()

    def emit(event: Event) -> None:
        step = (event.phase, event.iteration, event.loss) if isinstance(event, Step) else ()
        seen.append((len(learner.rates), type(event).__name__, *step))

    dataclasses.replace(fit_of(learner, Images([3])), emit=emit).run(learner.stop)
    assert seen == [
        (2, "Step", "training", 1, 3.0),
        (3, "Step", "training", 2, 2.0),
        (3, "Step", "training", 3, 1.0),
        (3, "EpochTrained"),
        (3, "Compared"),
        (3, "Step", "validation", 1, None),
        (3, "Counted"),
        (3, "EpochValidated"),
        (3, "EpochEnded"),
    ]


def test_a_loss_that_is_a_number_is_reported_before_the_next_step_begins() -> None:
    learner, begun = FakeLearner([1.0]), list[int]()
    fit = fit_of(learner, Images([3]))
    dataclasses.replace(fit, emit=lambda _: begun.append(len(learner.rates))).run(learner.stop)
    assert begun[:3] == [1, 2, 3]


@pytest.mark.parametrize("slow", [True, False])
def test_a_stopped_run_reports_each_of_its_updates(slow: bool) -> None:
    learner = SlowLearner([1.0], stop_at=2, values=(3.0, 2.0)) if slow else FakeLearner([1.0], stop_at=2)
    steps = run(learner, Images([5]), epochs=3).of(Step)
    assert [(step.iteration, step.loss) for step in steps] == [(1, 3.0 if slow else 1.0), (2, 2.0)]


def test_a_checkpoint_holds_no_update_that_was_not_reported() -> None:
    learner, order = SlowLearner([1.0], values=(3.0, 2.0)), list[tuple[str, int]]()
    fit = fit_of(learner, Images([2]))
    dataclasses.replace(
        fit,
        emit=lambda event: order.append(("step", event.iteration)) if isinstance(event, Step) else None,
        checkpoint=lambda progress: order.append(("checkpoint", progress.iteration)),
        checkpoint_seconds=0,
    ).run(learner.stop)
    assert order[:4] == [("step", 1), ("checkpoint", 1), ("step", 2), ("checkpoint", 2)]


def test_a_loss_that_is_no_number_ends_the_run_and_no_checkpoint_has_it() -> None:
    class Named(Images):
        def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
            for number in range(4):
                yield dataclasses.replace(batch(2), names=(f"train/{number}a.jpg", f"train/{number}b.jpg"))

    learner = SlowLearner([1.0], values=(3.0, 2.0, math.nan))
    with pytest.raises(
        DivergedError, match=r"after 0 epochs and 3 iterations: .* contained train/2a\.jpg, train/2b\.jpg\..* was 3\."
    ):
        run(learner, Named([4]), epochs=1)
    assert len(learner.rates) == 4  # it was found while the next one was under way
    learner = SlowLearner([1.0], values=(3.0, math.nan))
    saved: list[Progress] = []
    fit = dataclasses.replace(fit_of(learner, Named([4])), checkpoint=saved.append, checkpoint_seconds=0)
    with pytest.raises(DivergedError):
        fit.run(learner.stop)
    assert [progress.iteration for progress in saved] == [1]


def test_a_loss_that_does_not_move_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    run(SlowLearner([1.0]), Images([1]), epochs=5)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "hardly moved in 3 epochs: 1, 1, 1" in warning
