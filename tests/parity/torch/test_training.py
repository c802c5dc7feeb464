"""PyTorch's training compared with GluonCV's and MXNet's in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gluon_models import gluoncv_steps, without_dropout
from torch_learners import DoubleTorchLearner, no_dropout
from untrained import ALGORITHMS, initial_arrays, specification

from semseg.codecs.params import write_params
from semseg.engines.gluon import networks
from semseg.types import Arrays, Batch

CLASSES, SIZE, RATE = 4, 32, 1e-6


@pytest.fixture
def theirs(plain: Any, tmp_path: Path) -> Callable[[str, Arrays], Any]:
    """Builds GluonCV's network with these parameters, in float64 and without dropout."""

    def theirs(algorithm: str, arrays: Arrays) -> Any:
        write_params(tmp_path / "model.params", arrays)
        model = plain(algorithm, "resnet-50", CLASSES, crop_size=SIZE)
        model.load_parameters(str(tmp_path / "model.params"))
        without_dropout(model)
        model.cast("float64")
        return model

    return theirs


def _values(model: Any) -> Arrays:
    return {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}


def _as_unbiased(name: str, after: Any, before: Any, sizes: dict[str, int]) -> Any:
    """A running variance as it is with the unbiased variance of a batch, which PyTorch and GPUs take."""
    size = sizes.get(name.removesuffix(".running_var"))
    if size is None:
        return after
    return 0.9 * before + (after - 0.9 * before) * size / (size - 1)


def _positions(learner: DoubleTorchLearner) -> dict[str, int]:
    """Registers the number of values per channel that each batch normalisation sees."""
    sizes: dict[str, int] = {}

    def watch(name: str, layer: Any) -> None:
        layer.register_forward_pre_hook(lambda _, inputs: sizes.update({name: inputs[0][:, 0].numel()}))

    for name, layer in learner._network.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            watch(name, layer)
    return sizes


@pytest.mark.req("R3", "R8")
@pytest.mark.parametrize("aux", [True, False], ids=["aux", "no-aux"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_step_changes_each_parameter_as_gluoncvs(theirs: Any, batch: Batch, algorithm: str, aux: bool) -> None:
    """Each within a millionth of its largest change."""
    before = initial_arrays(algorithm, "resnet-50", CLASSES)
    learner = DoubleTorchLearner(specification(algorithm, CLASSES, aux_loss=aux), before)
    sizes = _positions(learner)
    with no_dropout():
        loss = learner.train_step(batch, RATE, 0)
    model = theirs(algorithm, before)
    settings = {"momentum": 0.9, "wd": 0.0001}
    assert [loss] == pytest.approx(gluoncv_steps(model, batch, 1, RATE, "sgd", settings, aux), rel=1e-7)
    after = learner.parameters()
    for name, array in _values(model).items():
        expected = _as_unbiased(name, array, before[name], sizes)
        largest = np.abs(expected - before[name]).max()
        assert np.abs(after[name] - expected).max() <= 1e-6 * largest, name
        assert (largest == 0) == (not aux and name.startswith("auxlayer.")), name
