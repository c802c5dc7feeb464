"""Training on several devices in one process. MXNet's CPU contexts stand in for GPUs: each has copies of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gluon_models import DoubleLearner, tiny_model, without_dropout
from untrained import specification

from semseg.engines.gluon import networks
from semseg.engines.gluon.learner import GluonLearner
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import IGNORED, Arrays, Batch

SIDE, CLASSES = 24, 3
RATE = 0.1
RUNNING = ("running_mean", "running_var")

Make = Callable[..., Any]


@pytest.fixture
def make(mx: Any) -> Make:
    """Makes a learner of a tiny network on so many devices, with equal values each time.

    frozen: BatchNorm uses its running statistics. double: in float64. Other arguments are of the specification or of
    its optimizer, which is plain sgd: its first step is the gradient by the learning rate.
    """

    def make(devices: int, *, frozen: bool = False, dropout: bool = False, double: bool = False, **given: Any) -> Any:
        fields = {field.name for field in dataclasses.fields(specification())}
        settings = {"momentum": 0.0, "weight_decay": 0.0} | {k: v for k, v in given.items() if k not in fields}
        name = given.pop("optimizer", "sgd")
        wanted = specification("fcn", CLASSES, name, **settings)
        wanted = dataclasses.replace(wanted, **{key: value for key, value in given.items() if key in fields})
        mx.random.seed(3)
        model = tiny_model(CLASSES, channels=8)
        model(mx.nd.zeros((1, 3, SIDE, SIDE)))  # makes the values
        if not dropout:
            without_dropout(model)
        if double:
            model.cast("float64")
        model.apply(lambda layer: freeze(layer) if frozen and isinstance(layer, mx.gluon.nn.BatchNorm) else None)
        contexts = [mx.cpu(number) for number in range(devices)]
        model.collect_params().reset_ctx(contexts)
        return (DoubleLearner if double else GluonLearner)(wanted, contexts, model)

    def freeze(layer: Any) -> None:
        layer._kwargs["use_global_stats"] = True

    return make


def batch_of(images: int, seed: int = 0) -> Batch:
    """A batch, of whose first image many pixels are ignored, and of whose last one nearly all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (images, SIDE, SIDE)).astype(np.uint8)
    labels[0, :9] = IGNORED
    labels[-1, :, 2:] = IGNORED
    return Batch(rng.integers(0, 256, (images, SIDE, SIDE, 3)).astype(np.uint8), labels)


def require_close(found: Arrays, expected: Arrays, before: Arrays) -> None:
    """Equal to 1e-5 of the largest change."""
    assert found.keys() == expected.keys()
    change = max(np.abs(expected[name] - before[name]).max() for name in before)
    assert change > 0
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * change, err_msg=name)


def copies(learner: Any) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Each parameter on each device."""
    named = networks.parameters(learner._model)
    return {name: [copy.asnumpy() for copy in value.list_data()] for name, value in named.items()}


CRITERIA: dict[str, dict[str, Any]] = {
    "cross entropy": {},
    "class weights": {"class_weights": (1.0, 2.0, 5.0)},
    "focal": {"loss": "focal"},
    "dice and class weights": {"loss": "dice+ce", "class_weights": (1.0, 2.0, 5.0)},
    "no auxiliary head": {"aux_loss": False},
    "a clipped gradient": {"gradient_clip": 0.2},
}


@pytest.mark.parametrize("statistics", [{"frozen": True}, {"syncbn": True}], ids=["frozen", "syncbn"])
@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_several_devices_make_the_update_of_one(
    make: Make, criterion: dict[str, Any], statistics: dict[str, Any]
) -> None:
    """Two and four devices, on full and uneven batches, and on fewer images than devices."""
    for images in (8, 5, 3):
        learners = one, two, four = [make(devices, **criterion, **statistics) for devices in (1, 2, 4)]
        before = one.parameters()
        rate = 50 * RATE if "gradient_clip" in criterion else RATE  # a smaller step is near float32's last digit
        values = [float(learner.train_step(batch_of(images), rate, 0)) for learner in learners]
        assert values == pytest.approx(values[:1] * 3, rel=1e-6)
        for several in (two, four):
            require_close(several.parameters(), one.parameters(), before)


def test_the_gradient_is_clipped_in_the_tests_above(make: Make) -> None:
    free, clipped = make(1), make(1, **CRITERIA["a clipped gradient"])
    for learner in (free, clipped):
        learner.train_step(batch_of(8), RATE, 0)
    assert any((array != free.parameters()[name]).any() for name, array in clipped.parameters().items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_steps_of_each_optimizer_are_those_of_one_device(make: Make, name: str) -> None:
    """In float64 where MXNet's optimizer has it: in float32 the order of a sum decides percents of some values."""
    double = name not in ("rmsprop", "adagrad")
    one, several = (make(devices, syncbn=True, double=double, optimizer=name) for devices in (1, 3))
    before = one.parameters()
    for seed, images in enumerate((5, 1, 6)):
        values = [float(learner.train_step(batch_of(images, seed), 0.001, seed)) for learner in (one, several)]
        assert values[1] == pytest.approx(values[0], rel=1e-6 if double else 1e-3)
    expected, found = one.parameters(), several.parameters()
    if double:
        require_close(found, expected, before)
    for key, array in expected.items():
        assert np.median(np.abs(found[key] - array)) <= 0.001 * np.abs(array - before[key]).max(), key


@pytest.mark.parametrize("syncbn", [True, False])
def test_the_copies_of_the_parameters_stay_equal(make: Make, syncbn: bool) -> None:
    """Also on devices without an image, and of a clipped gradient; the running statistics once they are asked for."""
    learner = make(4, syncbn=syncbn, dropout=True, optimizer="sgd", momentum=0.9, gradient_clip=0.2)
    for seed, images in enumerate((8, 2, 5)):
        learner.train_step(batch_of(images, seed), 0.01, seed)
        for name, (first, *others) in copies(learner).items():
            if not name.endswith(RUNNING):
                assert all((other == first).all() for other in others), name
    found = learner.parameters()
    for name, held in copies(learner).items():
        assert all((copy == found[name]).all() for copy in held), name


def test_without_syncbn_the_running_statistics_are_the_mean_of_the_devices(make: Make) -> None:
    batch = batch_of(5)
    several, alone = make(2), (make(1), make(1))
    several.train_step(batch, RATE, 0)
    for learner, part in zip(alone, (slice(3), slice(3, 5)), strict=True):
        learner.train_step(Batch(batch.images[part], batch.labels[part]), RATE, 0)
    found, expected = several.parameters(), [learner.parameters() for learner in alone]
    for name in (name for name in found if name.endswith(RUNNING)):
        np.testing.assert_allclose(found[name], (expected[0][name] + expected[1][name]) / 2, rtol=1e-6, err_msg=name)


def test_a_device_that_never_has_an_image_leaves_no_trace(make: Make) -> None:
    """Its running statistics would still be the first ones."""
    one, several = make(1), make(4)
    for seed in range(3):
        for learner in (one, several):
            learner.train_step(batch_of(1, seed), RATE, seed)
    expected = one.parameters()
    for name, array in several.parameters().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_one_device_has_nothing_to_synchronise(make: Make) -> None:
    def trained(**given: Any) -> Arrays:
        learner = make(1, dropout=True, **given)
        learner.train_step(batch_of(3), RATE, 0)
        return dict(learner.state())

    plain, synchronised = trained(), trained(syncbn=True, kvstore="nccl")
    assert all((array == synchronised[name]).all() for name, array in plain.items())


@pytest.mark.parametrize("syncbn", [True, False])
def test_the_devices_share_the_images_of_a_validation(make: Make, syncbn: bool) -> None:
    """Each with the running statistics that are saved."""
    several = make(3, syncbn=syncbn)
    several.train_step(batch_of(6), RATE, 0)
    one = make(1)
    for images in (5, 1):
        classes, loss = several.evaluate(batch_of(images, 9))
        one.load(several.parameters(), "the others")
        expected, expected_loss = one.evaluate(batch_of(images, 9))
        np.testing.assert_array_equal(classes, expected)
        assert loss == pytest.approx(expected_loss, rel=1e-6)
    several.train_step(batch_of(6), RATE, 1)
    image = np.random.default_rng(1).normal(size=(1, 3, 9, 33)).astype(np.float32)
    found = several.logits(image)
    one.load(several.parameters(), "the others")
    np.testing.assert_allclose(found, one.logits(image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("syncbn", [True, False])
def test_a_training_on_several_devices_resumes_bit_for_bit(make: Make, name: str, syncbn: bool) -> None:
    settings = {"optimizer": name, "momentum": 0.9, "syncbn": syncbn, "dropout": True}
    straight, resumed = make(3, **settings), make(3, **settings)
    resumed.train_step(batch_of(4, 50), RATE, 50)  # what is restored replaces all of this
    for seed in range(2):
        straight.train_step(batch_of(5, seed), 0.01, seed)
    resumed.restore(straight.state(), "checkpoint")
    for learner in (straight, resumed):
        learner.train_step(batch_of(2, 7), 0.01, 7)
        learner.train_step(batch_of(5, 8), 0.01, 8)
    found = resumed.state()
    for key, array in straight.state().items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1), (2, 3)])
def test_a_training_resumes_on_another_number_of_devices(make: Make, first: int, then: int) -> None:
    """As one that went on with the number it began with."""
    settings: dict[str, Any] = {"syncbn": True, "double": True, "optimizer": "adam"}
    began, resumed = make(first, **settings), make(then, **settings)
    for seed in range(2):
        began.train_step(batch_of(5, seed), 0.001, seed)
    state = began.state()
    resumed.restore(state, "checkpoint")
    before = began.parameters()
    for learner in (began, resumed):
        learner.train_step(batch_of(5, 7), 0.001, 7)
    require_close(resumed.parameters(), began.parameters(), before)
    assert resumed.state()["optimizer/updates"].tolist() == [3]


@pytest.mark.parametrize(
    ("kvstore", "kind", "warns"),
    [("device", "device", False), ("local", "local", False), ("nccl", "device", True), ("dist_sync", "device", True)],
)
def test_gradients_are_added_up_by_the_kvstore(
    make: Make, caplog: pytest.LogCaptureFixture, kvstore: str, kind: str, warns: bool
) -> None:
    """MXNet's build for CPUs has no NCCL."""
    several, one = make(2, frozen=True, kvstore=kvstore), make(1, frozen=True)
    assert [f"'_kvstore' is '{kvstore}'" in message for message in caplog.messages] == [True] * warns
    before = one.parameters()
    for learner in (one, several):
        learner.train_step(batch_of(4), RATE, 0)
    assert several._trainer._kvstore.type == kind
    require_close(several.parameters(), one.parameters(), before)


def test_a_batch_without_a_labelled_pixel_has_no_loss_and_no_gradient(make: Make) -> None:
    learner, labelled = make(2, frozen=True), batch_of(3)
    before = learner.parameters()
    assert float(learner.train_step(Batch(labelled.images, np.full_like(labelled.labels, IGNORED)), RATE, 0)) == 0
    for name, array in learner.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_part_of_the_batch_may_be_without_a_labelled_pixel(make: Make) -> None:
    batch = batch_of(4)
    batch.labels[:2] = IGNORED
    one, several = make(1, syncbn=True), make(2, syncbn=True)
    before = one.parameters()
    values = [float(learner.train_step(batch, RATE, 0)) for learner in (one, several)]
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    require_close(several.parameters(), one.parameters(), before)
