"""Keeps small gradients from vanishing in float16 (Micikevicius et al., 2018, "Mixed Precision Training")."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from semseg.engines.learner_state import number
from semseg.engines.torch.optimizers import Tensors
from semseg.types import Arrays

logger = logging.getLogger(__name__)

_FIRST = 2.0**16
_SMALLEST, _LARGEST = 2.0**-24, 2.0**24
_PATIENCE = 2000
"""PyTorch's own first scale, and the number of updates after which it tries twice the scale."""

_SCALE, _UPDATES = "loss_scale/scale", "loss_scale/updates"


class LossScale:
    """The factor of the differentiated loss: halved when a gradient overflows, doubled after many that do not."""

    def __init__(self) -> None:
        self._scale = _FIRST
        self._updates = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss by the scale."""
        return loss * self._scale

    def restore_size(self, gradients: Tensors) -> bool:
        """Divide the gradients of a scaled loss by the scale, and return whether all are finite; waits for the device.

        If not, an update with them is to be skipped: a log line says so, and the scale is halved.
        """
        finite = bool(torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all())
        if not finite:
            self._scale, self._updates = max(self._scale / 2, _SMALLEST), 0
            logger.warning(
                "An update is skipped: a gradient overflowed float16. The loss scale is now %g.", self._scale
            )
            return False
        torch._foreach_mul_(gradients, 1 / self._scale)
        self._updates += 1
        if self._updates == _PATIENCE:
            self._scale, self._updates = min(2 * self._scale, _LARGEST), 0
        return True

    def read(self) -> Arrays:
        """Return the scale and the updates since it changed, by names that no other part of a learner's state has."""
        return {_SCALE: np.array([self._scale]), _UPDATES: np.array([self._updates], np.int64)}

    def write(self, arrays: Arrays, origin: str) -> None:
        """Restore what `read` returned; a training in another precision saved no scale, and this one begins anew.

        Raises ArtifactError, naming `origin`, for values that `read` cannot have returned.
        """
        self._scale = number(arrays, _SCALE, _FIRST, (_SMALLEST, _LARGEST), origin)
        self._updates = int(number(arrays, _UPDATES, 0, (0, _PATIENCE - 1), origin))
