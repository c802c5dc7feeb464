from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon.optimizers import mxnet_arguments
from semseg.engines.protocols import OptimizerSettings
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Batch


def test_mxnet_is_given_what_an_optimizer_reads() -> None:
    assert {name: mxnet_arguments(OptimizerSettings(name, 0.11, 0.12, 0.13, 0.14, 0.15)) for name in OPTIMIZERS} == {
        "sgd": {"momentum": 0.11, "wd": 0.12},
        "adam": {},
        "rmsprop": {"gamma1": 0.13, "gamma2": 0.14, "centered": True},
        "adagrad": {},
        "nag": {"momentum": 0.11, "wd": 0.12},
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_scales_the_step_of_every_optimizer(
    tiny_learner: Callable[..., Any], batch: Batch, name: str
) -> None:
    """So the hints to change it, for a training that diverges or stands still, hold for each."""

    def step(rate: float) -> np.ndarray[Any, Any]:
        learner = tiny_learner(name)
        before = learner.parameters()
        learner.train_step(batch, rate, 0)
        after = learner.parameters()
        return np.concatenate([(after[key] - before[key]).ravel() for key in before if "running" not in key])

    assert np.linalg.norm(step(0.02)) == pytest.approx(2 * np.linalg.norm(step(0.01)), rel=0.01)
