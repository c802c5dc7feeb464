"""The training loop: numpy and the Learner protocol, nothing of an engine."""

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
from semseg.reporting.events import Emit, EpochEnded, EpochTrained, EpochValidated, Step
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.loss_watch import require_finite_loss, stuck
from semseg.training.progress import BEGINNING, Progress
from semseg.training.schedules import Schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Batch


class TrainingData(Protocol):
    """The training pictures, batch by batch, in another order each epoch."""

    @property
    def seekable(self) -> bool:
        """Whether an epoch can be begun behind its first batches."""
        ...

    def epoch(self, epoch: int, done: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, one at least, but for the first `done`.

        While they wait for data, a job that is told to stop has fewer of them, or Stopped.
        """
        ...

    def iterations(self, epoch: int) -> int:
        """How many batches an epoch has; of a pipe, as far as one can tell before."""
        ...


class ValidationData(Protocol):
    """The validation pictures, each once in an epoch."""

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """All batches. While they wait for data, a job that is told to stop has fewer of them, or Stopped."""
        ...

    def iterations(self) -> int | None:
        """How many batches that are; None while nobody knows."""
        ...


@dataclass(frozen=True)
class Fit:
    """All that a run of the loop needs.

    keep_best: called whenever a validation's mIOU is the best so far, the first one included.
    early_stopping: None to run all epochs.
    seed: with the epoch and the iteration, it gives the seed of each step.
    checkpoint: called at the end of each epoch, when the run is stopped, and every `checkpoint_seconds`; a run with the
    same learner and this progress goes on from there. Validation begins anew then, and so does the epoch of a training
    that is not seekable, which is saved only when it is done.
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
        """Trains and validates epoch by epoch, from `progress` on; returns within a step of `stop` being set.

        Set before, nothing is done. Raises Stopped if not even one update was made.
        """
        keeper = _Keeper(self.checkpoint, self.checkpoint_seconds)
        while progress.epoch < self.epochs and not stop.is_set():
            if self._ends_early(progress):
                break
            if not progress.trained:
                progress = self._train(progress, stop, keeper)
            validated = self._validate(progress, stop, keeper) if progress.trained else None
            if not progress.trained or not validated:
                if progress.trained or (progress.iteration and self.training.seekable):
                    keeper.save(progress)
                break
            progress = self._end_epoch(progress, progress.trained, validated)
            keeper.save(progress)
        if not progress.updates:
            raise Stopped

    def _ends_early(self, progress: Progress) -> bool:
        rule, curve = self.early_stopping, [epoch.validated.mean_iou for epoch in progress.ended]
        if rule is None or not rule.ends(curve):
            return False
        LOGGER.info(
            "Early stopping after epoch %d: the mIOU is at best %.4g, and in %d epochs has not gained enough "
            "(early_stopping_tolerance: %g).",
            progress.epoch - 1,
            progress.best,
            rule.patience,
            rule.tolerance,
        )
        return True

    def _train(self, progress: Progress, stop: threading.Event, keeper: _Keeper) -> Progress:
        """The rest of a pass over the training data; `trained` in what comes of it stays None if it was stopped."""
        epoch, done, before = progress.epoch, progress.iteration, progress.updates
        iterations, clock = self.training.iterations(epoch), _Clock(progress)
        step: _Step | None = None
        with closing(self.training.epoch(epoch, done)) as batches:
            for iteration, batch in enumerate(clock.timing(_until_stopped(batches)), done + 1):
                rate = self.schedule(before - done + iteration)
                loss = self.learner.train_step(batch, rate, self._step_seed(epoch, iteration))
                progress = self._settle(progress, step, clock)  # while the device has the next step to do
                step = _Step(loss, batch, rate, iterations)
                stopped, due = stop.is_set(), self.training.seekable and keeper.is_due()
                if stopped or due or isinstance(loss, float):  # a plain number need not be waited for
                    progress, step = self._settle(progress, step, clock), None
                if stopped:
                    return progress
                if due:
                    keeper.save(progress)
        progress = self._settle(progress, step, clock)
        if stop.is_set():  # the batches have ended early
            return progress
        return self._end_training(progress)

    def _settle(self, progress: Progress, step: _Step | None, clock: _Clock) -> Progress:
        """The progress with a step, once its loss is known, which is emitted then. Raises DivergedError."""
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
        if warning := stuck([*(epoch.trained.loss for epoch in progress.ended), trained.loss]):
            LOGGER.warning(warning)
        return dataclasses.replace(progress, trained=trained)

    def _validate(self, progress: Progress, stop: threading.Event, keeper: _Keeper) -> EpochValidated | None:
        """One pass over the validation data; None if it was stopped."""
        epoch, start, iterations = progress.epoch, time.perf_counter(), self.validation.iterations()
        matrix, samples, loss, counted = ConfusionMatrix(self.num_classes), 0, 0.0, 0
        with closing(self.validation.epoch(epoch)) as batches:
            for iteration, batch in enumerate(_until_stopped(batches), 1):
                if keeper.is_due():
                    keeper.save(progress)
                predicted, mean = self.learner.evaluate(batch)
                matrix.update(batch.labels, predicted)
                loss += mean * (int(matrix.counts.sum()) - counted)
                counted = int(matrix.counts.sum())
                samples += len(batch)
                if stop.is_set():
                    return None
                self.emit(Step(epoch, "validation", iteration, iterations, len(batch), learning_rate=None, loss=None))
        if stop.is_set():
            return None
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
        """A seed from 0 to 2^31 - 1 that depends on nothing but its three numbers."""
        return int(np.random.SeedSequence([self.seed, epoch, iteration]).generate_state(1)[0] >> 1)


class _Keeper:
    """Saves the progress of a run, and knows how long ago it did: so long a part of the run may be lost."""

    def __init__(self, save: Callable[[Progress], None], seconds: float) -> None:
        self._save = save
        self._seconds = seconds
        self._kept: Progress | None = None
        self._since = time.perf_counter()

    def is_due(self) -> bool:
        """Whether the last time was `seconds` ago."""
        return time.perf_counter() - self._since >= self._seconds

    def save(self, progress: Progress) -> None:
        """Save it, unless it is what was saved last."""
        if progress is not self._kept:
            self._save(progress)
        self._kept = progress
        self._since = time.perf_counter()


@dataclass(frozen=True)
class _Step:
    """An update that the learner was told to make, one of `iterations` in its epoch."""

    loss: SupportsFloat
    batch: Batch
    rate: float
    iterations: int


def _until_stopped(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, none more once those who wait for their data were told to stop."""
    with suppress(Stopped):
        yield from batches


class _Clock:
    """The time that an epoch's training took, and how much of it was spent `waiting` for batches, in seconds."""

    def __init__(self, progress: Progress) -> None:
        self._start = time.perf_counter() - progress.seconds
        self.waiting = progress.waiting

    def seconds(self) -> float:
        """The time until now."""
        return time.perf_counter() - self._start

    def timing(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, each waited for."""
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waiting += time.perf_counter() - begin
            if batch is None:
                return
            yield batch
