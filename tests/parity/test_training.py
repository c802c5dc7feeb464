from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import DoubleLearner, gluoncv_steps, tiny_model, without_dropout
from untrained import initial_arrays, specification

from semseg.codecs.params import write_params
from semseg.engines.gluon import networks
from semseg.engines.gluon.learner import GluonLearner
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import IGNORED, Arrays, Batch, UInt8

CLASSES, SIZE, RATE = 4, 32, 1e-5


@pytest.fixture
def network(mx: Any, plain: Any, tmp_path: Path) -> Callable[[str], Any]:
    """Loads a file of initial values, as this project writes it, into plain GluonCV; in float64 and without dropout."""

    def network(algorithm: str) -> Any:
        path = tmp_path / "model_algo-1"
        write_params(path, initial_arrays(algorithm, "resnet-50", CLASSES))
        model = plain(algorithm, "resnet-50", CLASSES, crop_size=SIZE)
        model.load_parameters(str(path))
        without_dropout(model)
        model.cast("float64")
        return model

    return network


def _normalised(mx: Any, images: UInt8) -> Any:
    """Images (N, H, W, 3) -> (N, 3, H, W), float64, as GluonCV's scripts normalise them."""
    transforms = mx.gluon.data.vision.transforms
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return mx.nd.stack(*[normalise(transforms.ToTensor()(_nd(mx, image))) for image in images]).astype("float64")


def _nd(mx: Any, array: Any) -> Any:
    return mx.nd.from_numpy(np.array(array))


def _values(model: Any) -> Arrays:
    return {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}


def _assert_equal_steps(before: Arrays, found: Arrays, expected: Arrays) -> None:
    """What the steps added to each parameter and running statistic is equal to 1e-5 of its largest value."""
    for name, array in expected.items():
        largest = np.abs(array - before[name]).max()
        assert np.abs(found[name] - array).max() <= 1e-5 * largest, name


@pytest.mark.req("R3", "R8")
@pytest.mark.parametrize(("algorithm", "steps"), [("fcn", 2), ("psp", 1), ("deeplab", 1)])
def test_sgd_gives_the_losses_parameters_and_classes_that_gluoncv_gives(
    mx: Any, network: Callable[[str], Any], batch: Batch, algorithm: str, steps: int
) -> None:
    """GluonCV trains a network, then this project's learner trains the same one from the same values."""
    model = network(algorithm)
    before = _values(model)
    expected_losses = gluoncv_steps(model, batch, steps, RATE, "sgd", {"momentum": 0.9, "wd": 0.0001})
    expected = _values(model)
    unseen = [np.random.default_rng(5).integers(0, 256, (1, *size, 3)).astype(np.uint8) for size in ((9, 9), (33, 70))]
    expected_classes = [model.predict(_normalised(mx, images)).asnumpy().argmax(1) for images in unseen]

    networks.assign(networks.parameters(model), before, "the values before")
    learner = DoubleLearner(specification(algorithm, CLASSES), [mx.cpu()], model)
    losses = [float(learner.train_step(batch, RATE, seed)) for seed in range(steps)]
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    after = _values(model)
    _assert_equal_steps(before, after, expected)
    assert all((after[name] != before[name]).any() for name in after if name.endswith("weight"))
    for images, classes in zip(unseen, expected_classes, strict=True):
        found, _ = learner.evaluate(Batch(images, np.zeros(images.shape[:3], np.uint8)))
        np.testing.assert_array_equal(found, classes)


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
    model, reference = tiny_pair
    before = _values(model)
    wanted = specification("fcn", CLASSES, name, momentum=0.8, weight_decay=0.01, gamma1=0.7, gamma2=0.6)
    learner = GluonLearner(wanted, [mx.cpu()], model)
    for seed in range(2):
        learner.train_step(batch, RATE, seed)
    gluoncv_steps(reference, batch, 2, RATE, name, SETTINGS.get(name, {}))
    after = _values(model)
    for parameter, array in _values(reference).items():
        step = array - before[parameter]
        differences = np.abs(after[parameter] - before[parameter] - step)
        assert np.median(differences) <= 0.01 * np.abs(step).max(), parameter


def test_without_aux_loss_the_auxiliary_head_stays_and_the_rest_is_gluoncvs(
    mx: Any, tiny_pair: tuple[Any, Any], batch: Batch
) -> None:
    model, reference = tiny_pair
    for each in tiny_pair:
        each.cast("float64")
    before = _values(model)
    learner = DoubleLearner(specification("fcn", CLASSES, aux_loss=False), [mx.cpu()], model)
    losses = [float(learner.train_step(batch, RATE, seed)) for seed in range(2)]
    expected = gluoncv_steps(reference, batch, 2, RATE, "sgd", {"momentum": 0.9, "wd": 0.0001}, aux=False)
    assert losses == pytest.approx(expected, rel=1e-5)
    after, wanted = _values(model), _values(reference)
    auxiliary = {name for name in after if name.startswith("auxlayer.")}
    assert auxiliary
    for name in auxiliary:
        np.testing.assert_array_equal(after[name], before[name])
    _assert_equal_steps(before, after, {name: array for name, array in wanted.items() if name not in auxiliary})


def test_the_value_stays_finite_where_gluoncvs_does_not(mx: Any, tiny_pair: tuple[Any, Any], batch: Batch) -> None:
    """Logits 1000 apart: the softmax of the others underflows to 0, whose logarithm GluonCV takes."""
    model, reference = tiny_pair
    for each in tiny_pair:
        each.head[2].bias.set_data(_nd(mx, np.array([1000, 0, 0, 0], np.float32)))
    wrong = np.where(batch.labels == IGNORED, IGNORED, 1).astype(np.uint8)
    value = GluonLearner(specification("fcn", CLASSES), [mx.cpu()], model).train_step(
        Batch(batch.images, wrong), RATE, 0
    )
    assert float(value) == pytest.approx(500, rel=0.05)  # half the pixels are ignored and count as 0
    assert gluoncv_steps(reference, Batch(batch.images, wrong), 1, RATE, "sgd", {}) == [np.inf]
