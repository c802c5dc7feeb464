from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import DoubleLearner, gluon_model, gluoncv_steps, learner_from_scratch, tiny_model, without_dropout
from untrained import ALGORITHMS, specification

from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.learner import GluonLearner
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import IGNORED, Arrays, Batch

CLASSES, SIZE, RATE = 4, 32, 1e-5
Pair = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Three images, half of whose pixels are ignored. What PSP pools to a pixel two would be too few to normalise."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, (3, SIZE, SIZE)).astype(np.uint8)
    labels[:, ::2] = IGNORED
    return Batch(rng.integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8), labels)


@pytest.fixture
def pair(mx: Any, plain: Any, tmp_path: Path) -> Pair:
    """Builds GluonCV's network and ours with equal parameters, both in float64 and without dropout."""

    def pair(algorithm: str) -> tuple[Any, Any]:
        mx.random.seed(11)
        ours = gluon_model(algorithm, "resnet-50", CLASSES, mx.cpu())
        ours.save_parameters(str(tmp_path / "start.params"))
        theirs = plain(algorithm, "resnet-50", CLASSES, crop_size=SIZE)
        theirs.load_parameters(str(tmp_path / "start.params"))
        for model in (ours, theirs):
            without_dropout(model)
            model.cast("float64")
        return ours, theirs

    return pair


def _values(model: Any) -> Arrays:
    return {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}


def _assert_equal_steps(before: Arrays, found: Arrays, expected: Arrays) -> None:
    """What the steps added to each parameter and running statistic is equal to 1e-5 of its largest value."""
    for name, array in expected.items():
        largest = np.abs(array - before[name]).max()
        assert np.abs(found[name] - array).max() <= 1e-5 * largest, name


@pytest.mark.req("R3", "R8")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_losses_and_parameters_after_two_sgd_steps_are_gluoncvs(
    mx: Any, pair: Pair, batch: Batch, algorithm: str
) -> None:
    ours, theirs = pair(algorithm)
    before = _values(ours)
    learner = DoubleLearner(specification(algorithm, CLASSES), mx.cpu(), ours)
    losses = [float(learner.train_step(batch, RATE, seed)) for seed in range(2)]
    expected = gluoncv_steps(theirs, batch, 2, RATE, "sgd", {"momentum": 0.9, "wd": 0.0001})
    assert losses == pytest.approx(expected, rel=1e-5)
    after = _values(ours)
    _assert_equal_steps(before, after, _values(theirs))
    assert all((after[name] != before[name]).any() for name in after if name.endswith("weight"))


SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.8, "wd": 0.01},
    "nag": {"momentum": 0.8, "wd": 0.01},
    "rmsprop": {"gamma1": 0.7, "gamma2": 0.6, "centered": True},
}
"""What MXNet's optimizers are given; nothing, if nothing is said."""


@pytest.fixture
def tiny_pair(mx: Any) -> tuple[Any, Any]:
    """Two tiny networks with equal parameters, both without dropout."""
    models = []
    for _ in range(2):
        mx.random.seed(11)
        models.append(tiny_model(CLASSES))
        without_dropout(models[-1])
    return models[0], models[1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_step_as_mxnets(mx: Any, tiny_pair: tuple[Any, Any], batch: Batch, name: str) -> None:
    """In float32, which some of them are bound to; so what most values do is compared, not what all do."""
    ours, theirs = tiny_pair
    before = _values(ours)
    wanted = specification("fcn", CLASSES, name, momentum=0.8, weight_decay=0.01, gamma1=0.7, gamma2=0.6)
    learner = GluonLearner(wanted, mx.cpu(), ours)
    for seed in range(2):
        learner.train_step(batch, RATE, seed)
    gluoncv_steps(theirs, batch, 2, RATE, name, SETTINGS.get(name, {}))
    after = _values(ours)
    for parameter, array in _values(theirs).items():
        step = array - before[parameter]
        differences = np.abs(after[parameter] - before[parameter] - step)
        assert np.median(differences) <= 0.01 * np.abs(step).max(), parameter


def test_without_aux_loss_the_auxiliary_head_stays_and_the_rest_is_gluoncvs(
    mx: Any, tiny_pair: tuple[Any, Any], batch: Batch
) -> None:
    ours, theirs = tiny_pair
    for model in tiny_pair:
        model.cast("float64")
    before = _values(ours)
    learner = DoubleLearner(specification("fcn", CLASSES, aux_loss=False), mx.cpu(), ours)
    losses = [float(learner.train_step(batch, RATE, seed)) for seed in range(2)]
    expected = gluoncv_steps(theirs, batch, 2, RATE, "sgd", {"momentum": 0.9, "wd": 0.0001}, aux=False)
    assert losses == pytest.approx(expected, rel=1e-5)
    after, wanted = _values(ours), _values(theirs)
    auxiliary = {name for name in after if name.startswith("auxlayer.")}
    assert auxiliary
    for name in auxiliary:
        np.testing.assert_array_equal(after[name], before[name])
    _assert_equal_steps(before, after, {name: array for name, array in wanted.items() if name not in auxiliary})


@pytest.mark.req("R3")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trained_network_loads_in_plain_gluoncv(
    mx: Any, plain: Any, batch: Batch, tmp_path: Path, algorithm: str
) -> None:
    learner = learner_from_scratch(specification(algorithm, CLASSES, "adam"))
    learner.train_step(batch, 0.001, 0)
    write_params(tmp_path / "model_algo-1", learner.parameters())
    theirs = plain(algorithm, "resnet-50", CLASSES)
    theirs.load_parameters(str(tmp_path / "model_algo-1"))
    rng = np.random.default_rng(5)
    for height, width in ((SIZE, SIZE), (33, 70)):
        images = rng.integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        normalised = mx.nd.image.normalize(
            mx.nd.image.to_tensor(runtime.to_device(images, mx.cpu())), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        )
        found, _ = learner.evaluate(Batch(images, np.zeros(images.shape[:3], np.uint8)))
        np.testing.assert_array_equal(found, theirs.predict(normalised).asnumpy().argmax(1))
    assert read_params(tmp_path / "model_algo-1").keys() == networks.parameters(theirs).keys()


def test_the_value_stays_finite_where_gluoncvs_does_not(mx: Any, tiny_pair: tuple[Any, Any], batch: Batch) -> None:
    """Logits 1000 apart: the softmax of the others underflows to 0, whose logarithm GluonCV takes."""
    ours, theirs = tiny_pair
    for model in tiny_pair:
        model.head[2].bias.set_data(runtime.to_device(np.array([1000, 0, 0, 0], np.float32), mx.cpu()))
    wrong = np.where(batch.labels == IGNORED, IGNORED, 1).astype(np.uint8)
    value = GluonLearner(specification("fcn", CLASSES), mx.cpu(), ours).train_step(Batch(batch.images, wrong), RATE, 0)
    assert float(value) == pytest.approx(500, rel=0.05)  # half the pixels are ignored and count as 0
    assert gluoncv_steps(theirs, Batch(batch.images, wrong), 1, RATE, "sgd", {}) == [np.inf]
