"""The training loop: numpy and the Learner protocol, nothing of an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated, Sink, Step
from semseg.training.learner import Learner
from semseg.training.schedules import Schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Batch


class TrainingData(Protocol):
    """The training pictures, batch by batch, in another order each epoch."""

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """The batches of an epoch, one at least."""
        ...

    def iterations(self, epoch: int) -> int:
        """How many batches that are; of a pipe, as far as one can tell before."""
        ...


class ValidationData(Protocol):
    """The validation pictures, each once in an epoch."""

    def epoch(self, epoch: int) -> Generator[Batch, None, None]:
        """All batches."""
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
    emit: Sink

    def run(self, stop: threading.Event) -> None:
        """Trains and validates epoch by epoch; returns within a step of `stop` being set."""
        best, updates = -1.0, 0
        for epoch in range(self.epochs):
            trained = self._train(epoch, updates, stop)
            if trained is None:
                return
            updates += trained.iterations
            validated = self._validate(epoch, stop)
            if validated is None:
                return
            improved = validated.mean_iou > best
            if improved:
                best = validated.mean_iou
                self.keep_best()
            self.emit(EpochEnded(trained, validated, self.epochs, improved))
            if self.early_stopping and self.early_stopping.update(validated.mean_iou):
                return

    def _train(self, epoch: int, updates: int, stop: threading.Event) -> EpochTrained | None:
        """One pass over the training data after so many updates; None if it was stopped."""
        start, iterations = time.perf_counter(), self.training.iterations(epoch)
        losses, samples, rate = [], 0, 0.0
        with closing(self.training.epoch(epoch)) as batches:
            for iteration, batch in enumerate(batches, 1):
                rate = self.schedule(updates + iteration)
                losses.append(self.learner.train_step(batch, rate, self._step_seed(epoch, iteration)))
                samples += len(batch)
                if stop.is_set():
                    return None
                self.emit(Step(epoch, "training", iteration, iterations, len(batch), rate))
        if stop.is_set():  # a pipe ends early then
            return None
        speed = samples / (time.perf_counter() - start)
        trained = EpochTrained(epoch, len(losses), sum(losses) / len(losses), rate, speed)
        self.emit(trained)
        return trained

    def _validate(self, epoch: int, stop: threading.Event) -> EpochValidated | None:
        """One pass over the validation data; None if it was stopped."""
        start, iterations = time.perf_counter(), self.validation.iterations()
        matrix, samples = ConfusionMatrix(self.num_classes), 0
        with closing(self.validation.epoch(epoch)) as batches:
            for iteration, batch in enumerate(batches, 1):
                matrix.update(batch.labels, self.learner.evaluate(batch))
                samples += len(batch)
                if stop.is_set():
                    return None
                self.emit(Step(epoch, "validation", iteration, iterations, len(batch), None))
        if stop.is_set():
            return None
        validated = EpochValidated(
            epoch,
            pixel_accuracy=matrix.pixel_accuracy(),
            mean_iou=matrix.mean_iou(),
            mean_iou_present=matrix.mean_iou_present(),
            iou=matrix.iou(),
            samples_per_second=samples / (time.perf_counter() - start),
        )
        self.emit(validated)
        return validated

    def _step_seed(self, epoch: int, iteration: int) -> int:
        """A seed from 0 to 2^31 - 1 that depends on nothing but its three numbers."""
        return int(np.random.SeedSequence([self.seed, epoch, iteration]).generate_state(1)[0] >> 1)
