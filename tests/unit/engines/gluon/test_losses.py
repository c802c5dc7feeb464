from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from loss_formulas import balanced_loss

from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.data.report import class_weights
from semseg.data.split_statistics import PairStatistics, SplitStatistics
from semseg.engines.gluon import runtime
from semseg.engines.gluon.losses import BalancedLoss, MixedCrossEntropy, Part
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.types import IGNORED, Batch

CLASSES = 3


def on_device(values: Any) -> Any:
    return runtime.to_device(np.asarray(values, np.float32), runtime.load().cpu())


@pytest.fixture
def outputs() -> list[Any]:
    """Logits of the two heads for two images."""
    rng = np.random.default_rng(0)
    found = [on_device(2 * rng.standard_normal((2, CLASSES, 5, 6))) for _ in range(2)]
    for logits in found:
        logits.attach_grad()
    return found


@pytest.fixture
def labels() -> Any:
    rng = np.random.default_rng(1)
    values = rng.integers(0, CLASSES, (2, 5, 6))
    values[0, :3] = IGNORED
    return on_device(values)


def gradients(mx: Any, criterion: Any, outputs: list[Any], labels: Any) -> list[Any]:
    with mx.autograd.record():
        objective = criterion([Part(outputs, labels)])
    mx.autograd.backward(objective.heads)
    return [logits.grad.asnumpy().copy() for logits in outputs]


@pytest.mark.parametrize("heads", [1, 2])
def test_the_default_is_gluoncvs_criterion(mx: Any, outputs: list[Any], labels: Any, heads: int) -> None:
    from gluoncv.loss import MixSoftmaxCrossEntropyLoss

    found = gradients(mx, MixedCrossEntropy(0.3), outputs[:heads], labels)
    reference = MixSoftmaxCrossEntropyLoss(heads > 1, aux_weight=0.3, ignore_label=IGNORED)
    with mx.autograd.record():
        losses = reference(*outputs[:heads], labels)
    losses.backward()
    for gradient, logits in zip(found, outputs[:heads], strict=True):
        np.testing.assert_array_equal(gradient, logits.grad.asnumpy())
        assert gradient.any()
    value = float(MixedCrossEntropy(0.3)([Part(outputs[:heads], labels)]).value)
    assert value == pytest.approx(float(losses.mean().asscalar()), rel=1e-6)


def test_the_defaults_value_is_finite_where_a_softmax_underflows_and_nan_where_a_logit_is(mx: Any) -> None:
    def value(*logits: float) -> float:
        part = Part([on_device(logits).reshape(1, 2, 1, 1)], mx.nd.ones((1, 1, 1)))
        return float(MixedCrossEntropy(0.5)([part]).value)

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
def test_each_reduces_to_the_defaults_gradient(mx: Any, outputs: list[Any], labels: Any, reduced: BalancedLoss) -> None:
    expected = gradients(mx, MixedCrossEntropy(0.5), outputs, labels)
    for found, wanted in zip(gradients(mx, reduced, outputs, labels), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)
        assert np.abs(wanted).max() > 0.01


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "dice+ce"])
def test_values_and_gradients_are_those_of_the_formulas(mx: Any, outputs: list[Any], labels: Any, kind: str) -> None:
    weights = np.array([0.5, 2.0, 4.0])

    def loss(logits: Any) -> float:
        return balanced_loss(kind, weights, logits, labels.asnumpy())

    criterion = BalancedLoss(kind, weights.tolist(), CLASSES, aux_weight=0.25)
    main, auxiliary = (logits.asnumpy().astype(np.float64) for logits in outputs)
    assert float(criterion([Part(outputs, labels)]).value) == pytest.approx(
        loss(main) + 0.25 * loss(auxiliary), rel=1e-5
    )
    gradient = gradients(mx, criterion, outputs, labels)[0]
    for place in np.ndindex(*main.shape):
        step = np.zeros_like(main)
        step[place] = 1e-5
        assert gradient[place] == pytest.approx((loss(main + step) - loss(main - step)) / 2e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "dice+ce"])
def test_nothing_to_learn_is_no_gradient(mx: Any, outputs: list[Any], labels: Any, kind: str) -> None:
    """All pixels ignored, or of a class that counts for nothing."""
    for weights, label in ((None, IGNORED), ((1.0, 0.0, 1.0), 1)):
        criterion = BalancedLoss(kind, weights, CLASSES, 0.5)
        for found in gradients(mx, criterion, outputs, 0 * labels + label):
            assert not found.any()


# A rare class: 98 pixels of the ground to 2 of a patch of stripes, which are as bright as the ground


def striped_images(rng: np.random.Generator) -> Batch:
    images, labels = 128 + 30 * rng.standard_normal((8, 64, 64)), np.zeros((8, 64, 64), np.uint8)
    stripes = 60 * np.sign(np.sin(np.arange(64) * np.pi / 2 + 0.1))
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(0, 64 - 9, 2)
        label[y : y + 9, x : x + 9] = 1
        image[y : y + 9, x : x + 9] += np.roll(stripes, rng.integers(4))[:9]
    return Batch(images.clip(0, 255).astype(np.uint8)[..., None].repeat(3, 3), labels)


def test_a_rare_class_that_the_default_overlooks_is_found_with_weights(tiny_learner: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    batches, unseen = [striped_images(rng) for _ in range(20)], striped_images(rng)
    statistics = SplitStatistics(Listing("train", (), ()), parse_label_map({"scale": 1}, 2, "map.json"))
    for label in np.concatenate([batch.labels for batch in batches]):
        statistics.add(PairStatistics(values=np.bincount(label.ravel(), minlength=256)))
    weights = class_weights(statistics.report()).tolist()
    assert weights == pytest.approx([0.51, 25.3], rel=0.01)

    def iou(weights: tuple[float, ...] | None) -> float | None:
        learner = tiny_learner("sgd", classes=2, weights=weights)
        for step in range(150):
            learner.train_step(batches[step % len(batches)], 0.1, step)
        matrix = ConfusionMatrix(2)
        matrix.update(unseen.labels, learner.evaluate(unseen)[0])
        return matrix.iou()[1]

    assert iou(None) == 0
    found = iou(tuple(weights))
    assert found
    assert found > 0.4


def test_class_weights_go_to_the_device_once(
    mx: Any, outputs: list[Any], labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Mock(side_effect=runtime.to_device)
    monkeypatch.setattr(runtime, "to_device", copied)
    criterion = BalancedLoss("focal", (1.0, 2.0, 3.0), CLASSES, 0.5)
    for _ in range(2):
        gradients(mx, criterion, outputs, labels)
    assert copied.call_count == 1
