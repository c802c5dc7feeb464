"""The training loop, which depends on numpy and the Learner protocol, but on no engine."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Protocol, SupportsFloat

import numpy as np

from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import Compared, Counted, Emit, EpochEnded, EpochTrained, EpochValidated, Step
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.training.loss_watch import require_finite_loss, stagnation_warning
from semseg.training.progress import BEGINNING, Progress
from semseg.training.schedules import Schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Batch


class TrainingData(Protocol):
    """The training images in batches, in a different order each epoch."""

    @property
    def seekable(self) -> bool:
        """Whether an epoch can be started after its first batches."""
        ...

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch, at least one, without the first `done`.

        If the job is stopped while they wait for data, they end early or raise Stopped.
        """
        ...

    def iterations(self, epoch: int) -> int:
        """Returns the number of batches in an epoch; for a pipe, the expected number."""
        ...


class ValidationData(Protocol):
    """The validation images, each once in an epoch."""

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """Yields all batches. If the job is stopped while they wait for data, they end early or raise Stopped."""
        ...

    def iterations(self) -> int | None:
        """Returns the number of batches; None while it is unknown."""
        ...


@dataclass(frozen=True)
class Fit:
    """The training loop and all that it needs.

    keep_best: called whenever a validation's mIOU is the best so far, including the first.
    early_stopping: None to run all epochs.
    seed: determines, with the epoch and the iteration, the seed of each step.
    checkpoint: called at the end of each epoch, when the run is stopped, and every `checkpoint_seconds`, with the
    progress from which a run with the same learner resumes. An interrupted validation restarts from its beginning.
    Training data that is not seekable is checkpointed only after a whole pass.
    """

    learner: Learner
    training: TrainingData
    validation: ValidationData
    schedule: Schedule
    epochs: int
    num_classes: int
    seed: int
    early_stopping: EarlyStopping | None
    keep_best: Callable[[], None]
    emit: Emit
    checkpoint: Callable[[Progress], None] = lambda _: None
    checkpoint_seconds: float = math.inf

    def run(self, stop: threading.Event, progress: Progress = BEGINNING) -> None:
        """Trains and validates epoch by epoch, starting at `progress`; returns within a step of `stop` being set.

        Does nothing if `stop` is already set. Raises Stopped if not a single update has been made.
        """
        saver = _ProgressSaver(self.checkpoint, self.checkpoint_seconds)
        while progress.epoch < self.epochs and not stop.is_set():
            if self._ends_early(progress):
                break
            if not progress.trained:
                progress = self._train(progress, stop, saver)
            validated = self._validate(progress, stop, saver) if progress.trained else None
            if not progress.trained or not validated:
                if progress.trained or (progress.iteration and self.training.seekable):
                    saver.save(progress)
                break
            progress = self._end_epoch(progress, progress.trained, validated)
            saver.save(progress)
        if not progress.updates:
            raise Stopped

    def _ends_early(self, progress: Progress) -> bool:
        rule, curve = self.early_stopping, [epoch.validated.mean_iou for epoch in progress.ended]
        if rule is None or not rule.ends(curve):
            return False
        LOGGER.info(
            "Early stopping after epoch %d: the best mIOU is %.4g and has not improved enough in %d epochs "
            "(early_stopping_tolerance: %g).",
            progress.epoch - 1,
            progress.best,
            rule.patience,
            rule.tolerance,
            extra=FOR_PEOPLE,
        )
        return True

    def _train(self, progress: Progress, stop: threading.Event, saver: _ProgressSaver) -> Progress:
        """Runs the rest of a pass over the training data; `trained` stays None in the result if it was stopped."""
        epoch, done, before = progress.epoch, progress.iteration, progress.updates
        iterations, clock = self.training.iterations(epoch), _Clock(progress)
        step: _PendingStep | None = None
        with closing(self.training.epoch(epoch, done)) as batches:
            for iteration, batch in enumerate(clock.timing(_until_stopped(batches)), done + 1):
                rate = self.schedule(before - done + iteration)
                loss = self.learner.train_step(batch, rate, self._step_seed(epoch, iteration))
                progress = self._settle(progress, step, clock)  # while the device computes the next step
                step = _PendingStep(loss, batch, rate, iterations)
                stopped, due = stop.is_set(), self.training.seekable and saver.is_due()
                if stopped or due or isinstance(loss, float):  # a plain number is known already
                    progress, step = self._settle(progress, step, clock), None
                if stopped:
                    return progress
                if due:
                    saver.save(progress)
        progress = self._settle(progress, step, clock)
        if stop.is_set():  # the batches ended early
            return progress
        return self._end_training(progress)

    def _settle(self, progress: Progress, step: _PendingStep | None, clock: _Clock) -> Progress:
        """Waits for a step's loss, emits it, and returns the progress with that step. Raises DivergedError."""
        if step is None:
            return progress
        epoch, iteration, samples = progress.epoch, progress.iteration + 1, len(step.batch)
        loss = float(step.loss)
        require_finite_loss(loss, epoch, iteration, step.batch.names, step.rate)
        progress = progress.stepped(loss, samples, clock.seconds(), clock.waiting)
        self.emit(Step(epoch, "training", iteration, step.iterations, samples, step.rate, loss))
        return progress

    def _end_training(self, progress: Progress) -> Progress:
        done = progress.iteration
        rate, speed = self.schedule(progress.updates), progress.samples / progress.seconds
        waiting = progress.waiting / progress.seconds
        trained = EpochTrained(progress.epoch, done, progress.loss / done, rate, speed, waiting)
        self.emit(trained)
        if warning := stagnation_warning([*(epoch.trained.loss for epoch in progress.ended), trained.loss]):
            LOGGER.warning(warning)
        return dataclasses.replace(progress, trained=trained)

    def _validate(self, progress: Progress, stop: threading.Event, saver: _ProgressSaver) -> EpochValidated | None:
        """Runs one pass over the validation data; returns None if it was stopped."""
        epoch, start, iterations = progress.epoch, time.perf_counter(), self.validation.iterations()
        matrix, samples, loss, counted = ConfusionMatrix(self.num_classes), 0, 0.0, 0
        with closing(self.validation.epoch(epoch)) as batches:
            for iteration, batch in enumerate(_until_stopped(batches), 1):
                if saver.is_due():
                    saver.save(progress)
                predicted, mean = self.learner.evaluate(batch)
                matrix.update(batch.labels, predicted)
                loss += mean * (int(matrix.counts.sum()) - counted)
                counted = int(matrix.counts.sum())
                samples += len(batch)
                self.emit(Compared(epoch, batch, predicted))
                if stop.is_set():
                    return None
                self.emit(Step(epoch, "validation", iteration, iterations, len(batch), learning_rate=None, loss=None))
        if stop.is_set():
            return None
        self.emit(Counted(epoch, matrix))
        validated = EpochValidated(
            epoch,
            loss=loss / max(counted, 1),
            pixel_accuracy=matrix.pixel_accuracy(),
            mean_iou=matrix.mean_iou(),
            mean_iou_present=matrix.mean_iou_present(),
            iou=matrix.iou(),
            samples_per_second=samples / max(time.perf_counter() - start, 1e-9),
        )
        self.emit(validated)
        return validated

    def _end_epoch(self, progress: Progress, trained: EpochTrained, validated: EpochValidated) -> Progress:
        improved = validated.mean_iou > progress.best
        if improved:
            self.keep_best()
        ended = EpochEnded(trained, validated, self.epochs, improved)
        self.emit(ended)
        return Progress((*progress.ended, ended))

    def _step_seed(self, epoch: int, iteration: int) -> int:
        """Returns a seed from 0 to 2^31 - 1, derived from the run's seed, the epoch and the iteration only."""
        return int(np.random.SeedSequence([self.seed, epoch, iteration]).generate_state(1)[0] >> 1)


class _ProgressSaver:
    """Saves a run's progress, at the latest every `seconds`, which bounds the work that a crash can lose."""

    def __init__(self, save: Callable[[Progress], None], seconds: float) -> None:
        self._save = save
        self._seconds = seconds
        self._saved: Progress | None = None
        self._since = time.perf_counter()

    def is_due(self) -> bool:
        """Whether the last save was at least `seconds` ago."""
        return time.perf_counter() - self._since >= self._seconds

    def save(self, progress: Progress) -> None:
        """Saves the progress, unless it was the last one saved."""
        if progress is not self._saved:
            self._save(progress)
        self._saved = progress
        self._since = time.perf_counter()


@dataclass(frozen=True)
class _PendingStep:
    """An update whose loss the device may still be computing, one of `iterations` in its epoch."""

    loss: SupportsFloat
    batch: Batch
    rate: float
    iterations: int


def _until_stopped(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the batches, and ends when the job is stopped while waiting for data."""
    with suppress(Stopped):
        yield from batches


class _Clock:
    """Measures the seconds of an epoch's training, and those spent `waiting` for batches."""

    def __init__(self, progress: Progress) -> None:
        self._start = time.perf_counter() - progress.seconds
        self.waiting = progress.waiting

    def seconds(self) -> float:
        """Returns the seconds so far."""
        return time.perf_counter() - self._start

    def timing(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields the batches, and measures the time spent waiting for each."""
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waiting += time.perf_counter() - begin
            if batch is None:
                return
            yield batch
