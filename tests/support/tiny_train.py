"""`semseg` for the network of `tiny_network`, which PyTorch trains in float64 and without dropout."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import tiny_network
from small_model import known
from torch_learners import DoubleTorchLearner, no_dropout

from semseg import cli
from semseg.engines import choose
from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import Device, Learner, LearnerSpecification
from semseg.engines.torch.engine import TorchEngine
from semseg.training import components
from semseg.types import Arrays

NETWORK = replace(tiny_network.NETWORK, name="fcn")
BACKBONE = replace(tiny_network.BACKBONE, name="resnet-50")
"""By the names of hyperparameters."""

FOR_GOOD = ExitStack()
"""Never closed."""


class DoubleEngine(TorchEngine):
    """PyTorch, but for the precision."""

    def learner(
        self, specification: LearnerSpecification, arrays: Arrays, _: str, __: Device, group: Group = ALONE
    ) -> Learner:
        return DoubleTorchLearner(specification, arrays, group)


def prepare() -> None:
    FOR_GOOD.enter_context(known((NETWORK,), (BACKBONE,)))
    FOR_GOOD.enter_context(patch.multiple(components, NETWORKS=(NETWORK,), BACKBONES=(BACKBONE,)))
    FOR_GOOD.enter_context(patch.object(choose, "WITH_LEARNERS", (DoubleEngine(),)))
    FOR_GOOD.enter_context(no_dropout())


if __name__ == "__main__":
    prepare()
    sys.exit(cli.main())
if __name__ == "__mp_main__":  # in the process of a rank, which multiprocessing starts
    prepare()
