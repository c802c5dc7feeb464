"""Copies between the host and a device without making either wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semseg.engines.torch import faults


def to_device(array: NDArray[Any], device: Any) -> Tensor:
    """Return an array on a torch.device, in its dtype; on a GPU the copy may still be under way.

    On a CPU the tensor shares the array's memory where that can be written to.
    """
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Late:
    """A number that a GPU may still be computing; as a float it waits for that, but not for what was begun later."""

    def __init__(self, value: Tensor) -> None:
        """value: without dimension; its copy is begun here."""
        self._value = torch.empty((), dtype=value.dtype, pin_memory=True)
        self._value.copy_(value, non_blocking=True)
        self._copied = torch.cuda.Event(blocking=True)
        self._copied.record(torch.cuda.current_stream(value.device))

    @faults.translated(faults.TRAINING_HINT)
    def __float__(self) -> float:
        self._copied.synchronize()
        return float(self._value)
