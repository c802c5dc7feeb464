from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import optimizer_state
from semseg.engines.gluon.optimizers import mxnet_arguments
from semseg.engines.protocols import OptimizerSettings
from semseg.errors import ArtifactError
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Arrays, Batch


def kept_arrays(mx: Any, name: str) -> int:
    """How many arrays MXNet's optimizer keeps of a parameter: None, one, or a tuple of them."""
    optimizer = mx.optimizer.create(name, **mxnet_arguments(OptimizerSettings(name)))
    state = optimizer.create_state(0, mx.nd.zeros(1))
    return len(state) if isinstance(state, tuple) else int(state is not None)


def steps(learner: Any, batch: Batch, seeds: range) -> list[float]:
    return [float(learner.train_step(batch, 0.01, seed)) for seed in seeds]


def require_equal(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_learner_goes_on_bit_for_bit(tiny_learner: Callable[..., Any], batch: Batch, name: str) -> None:
    straight, fresh, used = tiny_learner(name), tiny_learner(name, seed=1), tiny_learner(name, seed=2)
    steps(straight, batch, range(3))
    state = straight.state()
    losses = steps(straight, batch, range(3, 6))
    steps(used, batch, range(50, 57))
    for other in (fresh, used):
        other.restore(state, "checkpoint")
        assert steps(other, batch, range(3, 6)) == losses
        require_equal(other.state(), straight.state())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_number_that_an_optimizer_changes_is_in_its_state(mx: Any, name: str) -> None:
    """Some keep numbers for all parameters together, such as the number of updates, besides arrays for each."""
    weight = mx.gluon.Parameter("weight", shape=(3,))
    weight.initialize()
    trainer = mx.gluon.Trainer([weight], name, mxnet_arguments(OptimizerSettings(name)), kvstore=None)

    def numbers_after_a_step() -> dict[str, float]:
        with mx.autograd.record():
            loss = (weight.data() ** 2).sum()
        loss.backward()
        trainer.step(1)
        return {key: value for key, value in vars(trainer.optimizer).items() if isinstance(value, int | float)}

    before, after = numbers_after_a_step(), numbers_after_a_step()
    state = optimizer_state.read(trainer, {"weight": weight})
    read = [array.item() for key, array in state.items() if not key.startswith("weight/")]
    changed = {key: value for key, value in after.items() if value != before[key]}
    assert "num_update" in changed
    assert {key for key, value in changed.items() if value not in read} == set()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_has_every_array_by_name(tiny_learner: Callable[..., Any], batch: Batch, mx: Any, name: str) -> None:
    """The running statistics of batch normalisation are parameters that the optimizer leaves alone."""
    learner = tiny_learner(name)
    steps(learner, batch, range(2))
    state = learner.state()
    trained = [key.removeprefix("parameter/") for key in state if key.startswith("parameter/") and "running" not in key]
    kept = {f"optimizer/{key}/{number}" for key in trained for number in range(kept_arrays(mx, name))}
    assert {key for key in state if key.startswith("optimizer/")} == kept | {"optimizer/updates"}
    assert state["optimizer/updates"].tolist() == [2]
    assert "parameter/bn1.running_mean" in state


def test_a_learner_that_made_no_update_has_a_state_too(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    fresh, used = tiny_learner("adam"), tiny_learner("adam", seed=1)
    steps(used, batch, range(2))
    used.restore(fresh.state(), "checkpoint")
    assert steps(used, batch, range(2)) == steps(fresh, batch, range(2))


def test_the_state_of_another_optimizer_is_refused(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    sgd, adam = tiny_learner("sgd"), tiny_learner("adam")
    steps(sgd, batch, range(1))
    with pytest.raises(ArtifactError, match=r"here\.params does not fit the network: auxlayer.*/1 is missing"):
        adam.restore(sgd.state(), "here.params")
