"""Comparisons with what MXNet computed."""

from __future__ import annotations

import golden
import numpy as np
import pytest
import torch
from torch_learners import DoubleTorchLearner, no_dropout
from untrained import ALGORITHMS, ENCODERS, initial_arrays, random_arrays, specification

from semseg.engines.torch.network import TorchNetwork, arrays_of, assign
from semseg.engines.torch.updater import Updater
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import Initializer, Parameter
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Arrays, Float32


@pytest.fixture(scope="module")
def stored() -> Arrays:
    return golden.stored()


def require_close(found: Float32, expected: Float32, name: str, scale: Float32 | None = None) -> None:
    """To a hundred-thousandth of the largest value, or of the largest of `scale`."""
    largest = np.abs(expected if scale is None else scale).max()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-5 * largest, err_msg=name)


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_logits_are_mxnets(stored: Arrays, algorithm: str, backbone: str) -> None:
    network = TorchNetwork(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), golden.CLASSES, auxiliary=True)
    assign(network.tensors(), random_arrays(algorithm, backbone, golden.CLASSES), "a test")
    network.eval()
    for size in golden.SIZES:
        with torch.no_grad():
            found = network(torch.from_numpy(golden.normalised_image(*size)), auxiliary=True)
        for logits, head in zip(found, ("main", "auxiliary"), strict=True):
            name = golden.logits_name(algorithm, backbone, size, head)
            require_close(logits.numpy(), stored[name], name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("together", [False, True], ids=["one-by-one", "together"])
def test_updates_are_mxnets(stored: Arrays, optimizer: str, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 of the largest change, and a rounding; on GPUs tensors of one rate are updated together."""
    table = {
        name: Parameter(shape, Initializer.ZEROS, golden.HEADS_RATE if name.startswith("head") else 1.0, True)
        for name, shape in golden.TENSORS.items()
    }
    start = golden.first_values()
    tensors = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in start.items()}
    updater = Updater(golden.optimizer_settings(optimizer), tensors, table)
    if together:
        updater._groups = [(1.0, ["layer.weight"]), (golden.HEADS_RATE, ["head.bias"])]
    for number, (rate, drawn) in enumerate(zip(golden.RATES, golden.gradients(), strict=True)):
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(drawn[name]) / golden.IMAGES
        updater.update(rate, golden.IMAGES)
        for name, tensor in tensors.items():
            expected = stored[golden.update_name(optimizer, name)][number]
            require_close(tensor.detach().numpy(), expected, name, scale=expected - start[name])
    states = {name: array for name, array in updater.read().items() if name != "updates"}
    assert {golden.state_name(optimizer, name) for name in states} == {
        name for name in stored if name.startswith(golden.state_name(optimizer, ""))
    }
    for name, array in states.items():
        require_close(array, stored[golden.state_name(optimizer, name)], name)


def test_the_losses_of_a_training_are_mxnets(stored: Arrays) -> None:
    learner = DoubleTorchLearner(
        specification("fcn", golden.CLASSES), initial_arrays("fcn", "resnet-50", golden.CLASSES)
    )
    batch = golden.training_batch()
    with no_dropout():
        losses = [float(learner.train_step(batch, golden.STEP_RATE, seed)) for seed in range(golden.STEPS)]
    assert losses == pytest.approx(stored[golden.TRAINING].tolist(), rel=1e-3)
    assert losses[-1] < losses[0]
    assert arrays_of(learner._network.tensors())["head.block.4.weight"].dtype == np.float64
