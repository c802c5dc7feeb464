from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from loss_formulas import balanced_loss
from tiny_network import specification
from torch import Tensor

from semseg.engines.torch.losses import BalancedLoss, Criterion, MixedCrossEntropy, criterion_of
from semseg.types import IGNORED

CLASSES = 3


@pytest.fixture
def outputs() -> list[Tensor]:
    """Logits of the two heads for two images."""
    rng = np.random.default_rng(0)
    values = [2 * rng.standard_normal((2, CLASSES, 5, 6)) for _ in range(2)]
    return [torch.tensor(logits, dtype=torch.float32, requires_grad=True) for logits in values]


@pytest.fixture
def labels() -> Tensor:
    rng = np.random.default_rng(1)
    values = rng.integers(0, CLASSES, (2, 5, 6))
    values[0, :3] = IGNORED
    return torch.tensor(values)


def gradients(criterion: Criterion, outputs: list[Tensor], labels: Tensor) -> list[Any]:
    found = torch.autograd.grad(criterion(outputs, labels).total, outputs)
    return [gradient.numpy() for gradient in found]


def log_softmax(logits: Tensor) -> Any:
    scores = logits.detach().numpy().astype(np.float64)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


@pytest.mark.parametrize("heads", [1, 2])
def test_the_default_counts_all_pixels_in_its_value_and_the_valid_ones_in_its_gradient(
    outputs: list[Tensor], labels: Tensor, heads: int
) -> None:
    """As MixSoftmaxCrossEntropyLoss: 60 pixels, 42 of them valid, both heads at weight 1 in the gradient."""
    found = gradients(MixedCrossEntropy(0.3), outputs[:heads], labels)
    value = 0.0
    valid = (labels != IGNORED).numpy()
    truth = np.eye(CLASSES)[labels.where(labels != IGNORED, 0).numpy()].transpose(0, 3, 1, 2) * valid[:, None]
    for gradient, logits, weight in zip(found, outputs[:heads], (1, 0.3), strict=False):
        likelihood = log_softmax(logits)
        value -= weight * (truth * likelihood).sum() / 60
        expected = (np.exp(likelihood) * valid[:, None] - truth) / 42
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    objective = MixedCrossEntropy(0.3)(outputs[:heads], labels)
    assert float(objective.value) == pytest.approx(value, rel=1e-6)
    assert not objective.value.requires_grad


def test_the_defaults_value_is_finite_where_a_softmax_underflows_and_nan_where_a_logit_is() -> None:
    def value(*logits: float) -> float:
        scores = torch.tensor(logits).reshape(1, 2, 1, 1)
        return float(MixedCrossEntropy(0.5)([scores], torch.ones((1, 1, 1), dtype=torch.int64)).value)

    assert value(0.0, -80.0) == pytest.approx(80, abs=0.01)
    assert value(0.0, -1000.0) == 1000
    assert math.isnan(value(math.nan, 0.0))
    assert math.isnan(value(math.inf, 0.0))


@pytest.mark.parametrize(
    "reduced",
    [
        BalancedLoss("cross_entropy", None, CLASSES, 0.5),
        BalancedLoss("cross_entropy", (7.0, 7.0, 7.0), CLASSES, 0.5),
        BalancedLoss("focal", None, CLASSES, 0.5, focus=1e-6),
        BalancedLoss("dice+ce", None, CLASSES, 0.5, dice=1e-6),
    ],
)
def test_each_reduces_to_the_defaults_gradient(outputs: list[Tensor], labels: Tensor, reduced: BalancedLoss) -> None:
    expected = gradients(MixedCrossEntropy(0.5), outputs, labels)
    for found, wanted in zip(gradients(reduced, outputs, labels), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)
        assert np.abs(wanted).max() > 0.01


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "dice+ce"])
def test_values_and_gradients_are_those_of_the_formulas(outputs: list[Tensor], labels: Tensor, kind: str) -> None:
    weights = np.array([0.5, 2.0, 4.0])

    def loss(logits: Any) -> float:
        return balanced_loss(kind, weights, logits, labels.numpy())

    criterion = BalancedLoss(kind, weights.tolist(), CLASSES, aux_weight=0.25)
    main, auxiliary = (logits.detach().numpy().astype(np.float64) for logits in outputs)
    assert float(criterion(outputs, labels).value) == pytest.approx(loss(main) + 0.25 * loss(auxiliary), rel=1e-5)
    gradient = gradients(criterion, outputs, labels)[0]
    for place in np.ndindex(*main.shape):
        step = np.zeros_like(main)
        step[place] = 1e-5
        assert gradient[place] == pytest.approx((loss(main + step) - loss(main - step)) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "dice+ce"])
def test_nothing_to_learn_is_no_loss_and_no_gradient(outputs: list[Tensor], labels: Tensor, kind: str) -> None:
    """All pixels ignored, or of a class that counts for nothing."""
    criteria: list[tuple[Criterion, int]] = [
        (BalancedLoss(kind, None, CLASSES, 0.5), IGNORED),
        (BalancedLoss(kind, (1.0, 0.0, 1.0), CLASSES, 0.5), 1),
        (MixedCrossEntropy(0.5), IGNORED),
    ]
    for criterion, label in criteria:
        objective = criterion(outputs, torch.full_like(labels, label))
        assert objective.value == 0
        for found in torch.autograd.grad(objective.total, outputs):
            assert not found.any()


@pytest.mark.parametrize(
    ("loss", "weights", "balanced"),
    [("cross_entropy", None, False), ("cross_entropy", (1.0, 2.0, 3.0), True), ("dice+ce", None, True)],
)
def test_the_criterion_is_gluoncvs_unless_something_else_is_asked_for(
    loss: str, weights: tuple[float, ...] | None, balanced: bool
) -> None:
    found = criterion_of(dataclasses.replace(specification(loss=loss, weights=weights), aux_weight=0.25))
    expected = BalancedLoss(loss, weights, 3, 0.25) if balanced else MixedCrossEntropy(0.25)
    assert type(found) is type(expected)
    assert vars(found) == vars(expected)


def test_class_weights_go_to_the_device_once(outputs: list[Tensor], labels: Tensor) -> None:
    criterion = BalancedLoss("focal", (1.0, 2.0, 3.0), CLASSES, 0.5)
    criterion(outputs, labels)
    kept = criterion._weights_on_device
    assert kept is not None
    assert kept.device == outputs[0].device
    criterion(outputs, labels)
    assert criterion._weights_on_device is kept
