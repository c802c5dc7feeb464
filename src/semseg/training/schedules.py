"""Learning rate schedules, iteration by iteration (algorithm.md section 1.4; GluonCV's LRScheduler is the oracle)."""

from __future__ import annotations

import math
from collections.abc import Callable

from semseg.sagemaker.hyperparameters import Hyperparameters

Schedule = Callable[[int], float]
"""The learning rate of an update; the first update is number 1, as MXNet's optimizers count."""


def iterations_per_epoch(num_training_samples: int, mini_batch_size: int) -> int:
    """The iterations an epoch has for the schedule: floor(samples / batch), at least 1."""
    return max(1, num_training_samples // mini_batch_size)


def schedule(hyperparameters: Hyperparameters, iterations: int) -> Schedule:
    """The schedule of a job whose epochs have so many iterations."""
    base, last = hyperparameters.learning_rate, iterations * hyperparameters.epochs - 1
    steps = [epoch * iterations for epoch in hyperparameters.lr_scheduler_step]

    def done(update: int) -> float:
        """The share of the schedule that is over; none of it where it has a single iteration."""
        return min(update, last) / last if last > 0 else 0.0

    def poly(update: int) -> float:
        return base * math.pow(1 - done(update), 0.9)

    def cosine(update: int) -> float:
        return base * (1 + math.cos(math.pi * done(update))) / 2

    def step(update: int) -> float:
        passed = sum(boundary <= min(update, last) for boundary in steps)
        return base * hyperparameters.lr_scheduler_factor**passed

    return {"poly": poly, "cosine": cosine, "step": step}[hyperparameters.lr_scheduler]
