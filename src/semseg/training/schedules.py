"""Learning rate schedules by iteration, which follow GluonCV's LRScheduler."""

from __future__ import annotations

import math
from collections.abc import Callable

from semseg.sagemaker.hyperparameters import Hyperparameters

Schedule = Callable[[int], float]
"""Maps the number of an update, counted from 1 as in MXNet's optimizers, to its learning rate."""


def iterations_per_epoch(num_training_samples: int, mini_batch_size: int) -> int:
    """Returns the schedule's iterations an epoch: floor(samples / batch), at least 1."""
    return max(1, num_training_samples // mini_batch_size)


def schedule(hyperparameters: Hyperparameters, iterations: int) -> Schedule:
    """Returns the schedule of a job; iterations: the number in each epoch."""
    base, last = hyperparameters.learning_rate, iterations * hyperparameters.epochs - 1
    steps = [epoch * iterations for epoch in hyperparameters.lr_scheduler_step]

    def done(update: int) -> float:
        """Returns the completed share of the schedule, 0 to 1; 0 if it has a single iteration."""
        return min(update, last) / last if last > 0 else 0.0

    def poly(update: int) -> float:
        return base * math.pow(1 - done(update), 0.9)

    def cosine(update: int) -> float:
        return base * (1 + math.cos(math.pi * done(update))) / 2

    def step(update: int) -> float:
        passed = sum(boundary <= min(update, last) for boundary in steps)
        return base * hyperparameters.lr_scheduler_factor**passed

    return {"poly": poly, "cosine": cosine, "step": step}[hyperparameters.lr_scheduler]
