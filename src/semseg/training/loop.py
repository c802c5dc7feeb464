"""The training loop, which depends on numpy and the protocols Learner and Group, but on no engine."""

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

from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import Learner
from semseg.errors import Stopped, count_of
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import Compared, Counted, Emit, EpochEnded, EpochTrained, EpochValidated, Step
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.training.clocks import Clock, ProgressSaver
from semseg.training.loss_watch import require_finite_loss, stagnation_warning
from semseg.training.progress import BEGINNING, Progress
from semseg.training.schedules import Schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Batch

_NONE = -1
"""In place of a batch's size, where a rank has no more batches: its part of a batch may be empty."""


class TrainingData(Protocol):
    """The training images in batches, in a different order each epoch; in a group, one rank's part of each batch."""

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
    """The validation images, each once in an epoch; in a group, one rank's part of the batches."""

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """Yields all batches. If the job is stopped while they wait for data, they end early or raise Stopped."""
        ...

    def iterations(self) -> int | None:
        """Returns the number of batches of all ranks; None while it is unknown."""
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
    group: the ranks that run this loop together, each with its own learner and its part of the data. They stop when any
    of them is to stop, which sets the events of all, save when rank 0's clock says so, end an epoch when any has no
    batch left, and add up what they count in validation.
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
    group: Group = ALONE

    def run(self, stop: threading.Event, progress: Progress = BEGINNING) -> Progress:
        """Trains and validates epoch by epoch, starting at `progress`; returns the last progress.

        Returns within a step of `stop` being set. Does nothing if `stop` is already set. Raises Stopped if not a single
        update has been made.
        """
        saver = ProgressSaver(self.checkpoint, self.checkpoint_seconds)
        while progress.epoch < self.epochs and not self._stopped(stop):
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
        return progress

    def _ends_early(self, progress: Progress) -> bool:
        rule, curve = self.early_stopping, [epoch.validated.mean_iou for epoch in progress.ended]
        if rule is None or not rule.ends(curve):
            return False
        LOGGER.info(
            "Early stopping after %s: the best mIOU is %.4g and has not improved enough in %s "
            "(early_stopping_tolerance: %g).",
            count_of(progress.epoch, "epoch"),
            progress.best,
            count_of(rule.patience, "epoch"),
            rule.tolerance,
            extra=FOR_PEOPLE,
        )
        return True

    def _train(self, progress: Progress, stop: threading.Event, saver: ProgressSaver) -> Progress:
        """Runs the rest of a pass over the training data; `trained` stays None in the result if it was stopped."""
        epoch, done, before = progress.epoch, progress.iteration, progress.updates
        iterations, clock = self.training.iterations(epoch), Clock(progress)
        step: _PendingStep | None = None
        with closing(self.training.epoch(epoch, done)) as batches:
            rounds = clock.timing(self._while_all_have(_until_stopped(batches)))
            for iteration, (batch, samples) in enumerate(rounds, done + 1):
                rate = self.schedule(before - done + iteration)
                loss = self.learner.train_step(batch, rate, self._step_seed(epoch, iteration))
                progress = self._settle(progress, step, clock)  # while the device computes the next step
                step = _PendingStep(loss, samples, batch.names, rate, iterations)
                stopped, due = self._stopped(stop), self.training.seekable and self._is_due(saver)
                if stopped or due or isinstance(loss, float):  # a plain number is known already
                    progress, step = self._settle(progress, step, clock), None
                if stopped:
                    return progress
                if due:
                    saver.save(progress)
        progress = self._settle(progress, step, clock)
        if self._stopped(stop):  # the batches ended early
            return progress
        return self._end_training(progress)

    def _settle(self, progress: Progress, step: _PendingStep | None, clock: Clock) -> Progress:
        """Waits for a step's loss, emits it, and returns the progress with that step. Raises DivergedError."""
        if step is None:
            return progress
        epoch, iteration = progress.epoch, progress.iteration + 1
        loss = float(step.loss)
        require_finite_loss(loss, epoch, iteration, step.names, step.rate)
        progress = progress.stepped(loss, step.samples, clock.seconds(), clock.waiting)
        self.emit(Step(epoch, "training", iteration, step.iterations, step.samples, step.rate, loss))
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

    def _validate(self, progress: Progress, stop: threading.Event, saver: ProgressSaver) -> EpochValidated | None:
        """Runs one pass over the validation data; returns None if it was stopped."""
        epoch, start, iterations = progress.epoch, time.perf_counter(), self.validation.iterations()
        matrix, done, samples, loss, counted = ConfusionMatrix(self.num_classes), 0, 0, 0.0, 0
        with closing(self.validation.epoch(epoch)) as batches:
            for batch, sizes in self._while_any_has(_until_stopped(batches)):
                if saver.is_due():
                    saver.save(progress)
                if batch:
                    predicted, mean = self.learner.evaluate(batch)
                    matrix.update(batch.labels, predicted)
                    loss += mean * (int(matrix.counts.sum()) - counted)
                    counted = int(matrix.counts.sum())
                    self.emit(Compared(epoch, batch, predicted))
                if self._stopped(stop):
                    return None
                for size in sizes:
                    done, samples = done + 1, samples + size
                    self.emit(Step(epoch, "validation", done, iterations, size, learning_rate=None, loss=None))
        if self._stopped(stop):
            return None
        matrix.counts = self.group.sum(matrix.counts)
        loss, counted = float(self.group.sum(np.array([loss]))[0]), int(matrix.counts.sum())
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

    def _stopped(self, stop: threading.Event) -> bool:
        """Whether the job is to stop on any rank; then it is on all. One that comes meanwhile is for the next time."""
        if stopped := self.group.any(stop.is_set()):
            stop.set()
        return stopped

    def _is_due(self, saver: ProgressSaver) -> bool:
        """Whether rank 0's last save was long enough ago."""
        return self.group.any(self.group.rank == 0 and saver.is_due())

    def _while_all_have(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, int]]:
        """Yields this rank's part of each batch and the number of images in all parts, while every rank has one."""
        for batch, sizes in self._rounds(batches):
            if batch is None or min(sizes) == _NONE:
                return
            yield batch, sum(sizes)

    def _while_any_has(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch | None, list[int]]]:
        """Yields this rank's next batch, None once it has no more, and the sizes of all ranks', while any has one."""
        for batch, sizes in self._rounds(batches):
            if max(sizes) == _NONE:
                return
            yield batch, [size for size in sizes if size != _NONE]

    def _rounds(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch | None, list[int]]]:
        """Yields without end this rank's next batch, or None, and the number of images in each rank's, or _NONE."""
        while True:
            batch = next(batches, None)
            sizes = np.zeros(self.group.size, np.int64)
            sizes[self.group.rank] = _NONE if batch is None else len(batch)
            yield batch, self.group.sum(sizes).tolist()

    def _step_seed(self, epoch: int, iteration: int) -> int:
        """Returns a seed from 0 to 2^31 - 1, derived from the run's seed, the epoch and the iteration only."""
        return int(np.random.SeedSequence([self.seed, epoch, iteration]).generate_state(1)[0] >> 1)


@dataclass(frozen=True)
class _PendingStep:
    """An update whose loss the device may still be computing, one of `iterations` in its epoch.

    samples: the images in the batch of all ranks. names: those of this rank's.
    """

    loss: SupportsFloat
    samples: int
    names: tuple[str, ...]
    rate: float
    iterations: int


def _until_stopped(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the batches, and ends when the job is stopped while waiting for data."""
    with suppress(Stopped):
        yield from batches
