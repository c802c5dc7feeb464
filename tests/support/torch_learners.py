"""PyTorch's learners for comparisons with GluonCV's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from semseg.engines.protocols import LearnerSpecification
from semseg.engines.torch.learner import TorchLearner
from semseg.engines.torch.updater import Updater
from semseg.types import Arrays, UInt8


class DoubleTorchLearner(TorchLearner):
    """Computes in float64, on the CPU, from its first values."""

    def __init__(self, specification: LearnerSpecification, arrays: Arrays) -> None:
        super().__init__(specification, torch.device("cpu"), "float32")
        self._network.double()
        self._updater = Updater(specification.optimizer, self._network.tensors(), self._network.table)
        self.load(arrays, "a test")

    def _normalised(self, images: UInt8) -> Tensor:
        return super()._normalised(images).double()


@contextmanager
def no_dropout() -> Iterator[None]:
    """While it lasts, dropout leaves all values as they are."""
    with patch.object(functional, "dropout", lambda x, *_: x):
        yield
