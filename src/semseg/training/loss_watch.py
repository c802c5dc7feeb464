"""Stops a training that has diverged, and warns of one that makes no progress."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from semseg.errors import DivergedError, count_of, first_few
from semseg.types import Arrays

_PATIENCE = 3
_LEAST_FALL = 0.01
_FILES_SHOWN = 16
_HINT = (
    "The likeliest cause is too high a learning rate: try a tenth of learning_rate, or _gradient_clip=1. Otherwise the "
    "initial weights may be damaged, or files of the batch unusual."
)


def require_finite_loss(loss: float, epoch: int, iteration: int, names: Sequence[str], learning_rate: float) -> None:
    """Raises DivergedError, which says when, names the files and likely causes, unless the loss is finite."""
    if math.isfinite(loss):
        return
    raise DivergedError(
        f"The loss is {loss} after {count_of(epoch, 'epoch')} and {count_of(iteration, 'iteration')}: the training has "
        f"diverged. The batch contained {first_few(names, _FILES_SHOWN)}.",
        f"The learning rate was {learning_rate:g}. {_HINT}",
    )


def require_finite(arrays: Arrays) -> None:
    """Raises DivergedError, which names the arrays, if any of a learner's arrays has values that are not finite.

    The loss alone does not show this: oneDNN's ReLU turns NaN into 0, so that it stays finite with a damaged backbone.
    """
    damaged = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if damaged:
        raise DivergedError(
            f"The training has diverged: {first_few(damaged)} of its network have values that are not finite.", _HINT
        )


def stagnation_warning(losses: Sequence[float]) -> str | None:
    """Returns a warning if there are three epochs so far and their mean losses have not fallen by 1 % in all."""
    if len(losses) != _PATIENCE or min(losses[1:]) < (1 - _LEAST_FALL) * losses[0]:
        return None
    return (
        f"The training loss has hardly moved in {_PATIENCE} epochs: {', '.join(f'{loss:.4g}' for loss in losses)}. "
        "Perhaps the learning rate is too low (learning_rate, or num_training_samples too small, which lets it fall "
        "too early) or so high that nothing is learned, or the masks do not belong to the images; see "
        "data_report.json for what the masks contain."
    )
