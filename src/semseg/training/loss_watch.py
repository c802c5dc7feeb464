"""Stops a training, or warns of it, when its loss or its parameters say that nothing will come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from semseg.errors import DivergedError, first_few
from semseg.types import Arrays

_PATIENCE = 3
_LEAST_FALL = 0.01
_FILES_SHOWN = 16
_HINT = (
    "The likeliest cause is too high a learning rate: try a tenth of learning_rate, or _gradient_clip=1. Else the "
    "weights that the training began with may be damaged, or files of the batch be odd."
)


def require_finite_loss(loss: float, epoch: int, iteration: int, names: Sequence[str], learning_rate: float) -> None:
    """Raise DivergedError unless the loss is a number, with its place, the files of its batch and likely causes."""
    if math.isfinite(loss):
        return
    raise DivergedError(
        f"The loss is {loss} in epoch {epoch}, iteration {iteration}: the training has diverged. The batch was of "
        f"{first_few(names, _FILES_SHOWN)}.",
        f"The learning rate was {learning_rate:g}. {_HINT}",
    )


def require_finite(arrays: Arrays) -> None:
    """Raise DivergedError, naming them, if there are parameters, or others of a learner's arrays, with no numbers.

    oneDNN's ReLU makes 0 of what is no number: with the weights of a backbone lost, the loss would still be fine.
    """
    damaged = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if damaged:
        raise DivergedError(
            f"The training has diverged: {first_few(damaged)} of its network have values that are no numbers.", _HINT
        )


def stuck(losses: Sequence[float]) -> str | None:
    """A warning for people if the mean losses of the epochs so far, three just now, have not fallen by 1 % in all."""
    if len(losses) != _PATIENCE or min(losses[1:]) < (1 - _LEAST_FALL) * losses[0]:
        return None
    return (
        f"The training loss has hardly moved in {_PATIENCE} epochs: {', '.join(f'{loss:.4g}' for loss in losses)}. "
        "Perhaps the learning rate is too low (learning_rate, or num_training_samples too small, which lets it fall "
        "too early) or so high that nothing is learned, or the masks do not belong to the pictures; see "
        "data_report.json for what the masks show."
    )
