"""PyTorch's learners: of a tiny network, and for comparisons with GluonCV's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import tiny_network
import torch
from tiny_network import TinyLearners
from torch import Tensor
from torch.nn import functional

from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import LearnerSpecification
from semseg.engines.torch.learner import TorchLearner
from semseg.engines.torch.updater import Updater
from semseg.types import Arrays, UInt8


def tiny_learner(
    optimizer: str, seed: int = 0, classes: int = 3, precision: str = "float32", **settings: Any
) -> TorchLearner:
    """A learner of the tiny network on the CPU, with initial values."""
    specification = tiny_network.specification(optimizer, classes, **settings)
    learner = TorchLearner(specification, torch.device("cpu"), precision)
    learner.load(tiny_network.tiny_arrays(classes, seed), "initial values")
    return learner


TINY = TinyLearners(tiny_learner, tiny_network.NETWORK.classifier, rate_of_heads=10)


class DoubleTorchLearner(TorchLearner):
    """Computes in float64, on the CPU, from its first values."""

    def __init__(self, specification: LearnerSpecification, arrays: Arrays, group: Group = ALONE) -> None:
        super().__init__(specification, torch.device("cpu"), "float32", group)
        self._network.double()
        self._ranks = self._placed(group, specification.syncbn)
        self._updater = Updater(specification.optimizer, self._network.tensors(), self._network.table)
        self.load(arrays, "a test")

    def _normalised(self, images: UInt8) -> Tensor:
        return super()._normalised(images).double()


@contextmanager
def no_dropout() -> Iterator[None]:
    """While it lasts, dropout leaves all values as they are."""
    with patch.object(functional, "dropout", lambda x, *_: x):
        yield
