"""A training that changes its engine on the way, with a tiny network that both have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gluon_models import DoubleLearner, without_dropout
from tiny_network import specification, tiny_arrays
from torch_learners import DoubleTorchLearner, no_dropout

from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.learner import GluonLearner
from semseg.engines.torch.learner import TorchLearner
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import IGNORED, Arrays, Batch

mx = runtime.load()
nn = mx.gluon.nn
HybridBlock: Any = mx.gluon.HybridBlock

RATE = 0.01
Make = Callable[..., Any]


class FCN(HybridBlock):  # type: ignore[misc]
    """The tiny network for MXNet; the learner recognises networks by their class name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2D(4, 3, 2, 1, use_bias=False), nn.BatchNorm()
        self.relu, self.maxpool = nn.Activation("relu"), nn.MaxPool2D(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (self._normed() for _ in "1234")
        self.head, self.auxlayer = (self._normed(nn.Dropout(0.1), nn.Conv2D(3, 1)) for _ in "12")
        for head in (self.head, self.auxlayer):
            head.collect_params().setattr("lr_mult", 10)  # as GluonCV sets it

    def _normed(self, *more: Any) -> Any:
        block = nn.HybridSequential()
        block.add(nn.Conv2D(4, 3, 1, 1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"), *more)
        return block


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, (3, 24, 24)).astype(np.uint8)
    labels[:, ::2] = IGNORED
    return Batch(rng.integers(0, 256, (3, 24, 24, 3)).astype(np.uint8), labels)


@pytest.fixture
def mxnets() -> Make:
    """Makes MXNet's learners without dropout: `mxnets("sgd", seed=1, double=True, aux_loss=False)`."""

    def mxnets(optimizer: str, seed: int = 0, double: bool = False, **settings: Any) -> GluonLearner:
        model = FCN()
        model.initialize()
        networks.LowResolutionLogits(model, aux=True)(mx.nd.zeros((1, 3, 32, 32)))  # settles the shapes
        networks.assign(networks.parameters(model), tiny_arrays(3, seed), "a test")
        without_dropout(model)
        if double:
            model.cast("float64")
        return (DoubleLearner if double else GluonLearner)(specification(optimizer, **settings), [mx.cpu()], model)

    return mxnets


def go_on(learner: Any, source: Any, path: Path) -> None:
    """Continue with the state of another learner, from a file, and check that it is the same."""
    write_params(path, source.state())
    learner.restore(read_params(path), str(path))
    found, expected = learner.state(), source.state()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_close(found: Arrays, expected: Arrays, before: Arrays) -> None:
    """The change of each parameter is equal to a hundred-thousandth of its largest."""
    for name, array in expected.items():
        if not name.endswith("running_var"):  # PyTorch's are unbiased
            largest = np.abs(array - before[name]).max()
            np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * largest, err_msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "nag", "adam"])
@pytest.mark.parametrize("aux_loss", [True, False], ids=["aux", "no-aux"])
def test_engines_that_take_turns_train_as_mxnet_alone(
    mxnets: Make, batch: Batch, tmp_path: Path, optimizer: str, aux_loss: bool
) -> None:
    """In float64, to which MXNet does not take the other optimizers."""
    straight = mxnets(optimizer, double=True, aux_loss=aux_loss)
    first, third = (mxnets(optimizer, seed, True, aux_loss=aux_loss) for seed in range(2))
    second = DoubleTorchLearner(specification(optimizer, aux_loss=aux_loss), tiny_arrays(3, 2))
    losses = []
    for learner, source in ((first, None), (second, first), (third, second)):
        if source:
            go_on(learner, source, tmp_path / "checkpoint")
        with no_dropout():
            losses += [float(learner.train_step(batch, RATE, 0)) for _ in range(2)]
    assert losses == pytest.approx([float(straight.train_step(batch, RATE, 0)) for _ in range(6)], rel=1e-6)
    assert_close(third.parameters(), straight.parameters(), tiny_arrays())
    assert third.state()["optimizer/updates"].tolist() == [6]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_of_each_engine_is_the_others(mxnets: Make, batch: Batch, tmp_path: Path, optimizer: str) -> None:
    """In float32, from before the first update on."""
    gluon, pytorch = mxnets(optimizer), TorchLearner(specification(optimizer), torch.device("cpu"), "float32")
    go_on(pytorch, gluon, tmp_path / "checkpoint")
    pytorch.train_step(batch, RATE, 0)
    go_on(gluon, pytorch, tmp_path / "checkpoint")
    gluon.train_step(batch, RATE, 0)
    go_on(pytorch, gluon, tmp_path / "checkpoint")
    assert pytorch.state()["optimizer/updates"].tolist() == [2]


def test_mxnet_resumes_a_training_in_float16(mxnets: Make, batch: Batch) -> None:
    """Whose state has the loss scale too."""
    half, gluon = TorchLearner(specification("adam"), torch.device("cpu"), "float16"), mxnets("adam")
    half.load(tiny_arrays(), "a test")
    half.train_step(batch, RATE, 0)
    gluon.restore(half.state(), "checkpoint")
    assert gluon.state().keys() == half.state().keys() - {"loss_scale/scale", "loss_scale/updates"}
    for name, array in gluon.state().items():
        np.testing.assert_array_equal(half.state()[name], array, err_msg=name)
