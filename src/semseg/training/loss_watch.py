"""Stops a training, or warns of it, when its loss says that nothing will come of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from semseg.errors import DivergedError, some

_PATIENCE = 3
_LEAST_FALL = 0.01
_FILES_SHOWN = 16


def require_finite(loss: float, epoch: int, iteration: int, names: Sequence[str], learning_rate: float) -> None:
    """Raise DivergedError unless the loss is a number, with its place, the files of its batch and likely causes."""
    if math.isfinite(loss):
        return
    raise DivergedError(
        f"The loss is {loss} in epoch {epoch}, iteration {iteration}: the training has diverged. The batch was of "
        f"{some(names, _FILES_SHOWN)}.",
        f"The likeliest cause is too high a learning rate (it was {learning_rate:g}): try a tenth of learning_rate, or "
        "_gradient_clip=1. Else the weights that the training began with may be damaged, or the batch's files be odd.",
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
