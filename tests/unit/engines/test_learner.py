"""What every engine's learner does. What only one does is tested in its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_network import TinyLearners

from semseg.codecs.params import read_params, write_params
from semseg.types import IGNORED, Batch


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in ("mxnet", "torch")])
def tiny(request: pytest.FixtureRequest) -> TinyLearners:
    """Makes an engine's learners of a tiny network."""
    if request.param == "mxnet":
        import gluon_models

        return gluon_models.TINY
    import torch_learners

    return torch_learners.TINY


@pytest.mark.req("R1", "R8")
def test_a_network_learns_what_its_masks_show(tiny: TinyLearners, batch: Batch) -> None:
    learner = tiny.learner("adam")
    losses = [float(learner.train_step(batch, 0.01, seed)) for seed in range(40)]
    assert losses[-1] < losses[0] / 2


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(tiny: TinyLearners, batch: Batch) -> None:
    def losses(seed: int) -> list[float]:
        learner = tiny.learner("adam")
        return [float(learner.train_step(batch, 0.001, 100 * seed + step)) for step in range(3)]

    assert losses(0) == losses(0) != losses(1)


def test_the_seed_of_a_step_fixes_its_dropout(tiny: TinyLearners, batch: Batch) -> None:
    learner = tiny.learner("sgd")
    first, second, third = (float(learner.train_step(batch, 0.0, seed)) for seed in (1, 1, 2))
    assert first == second != third


def test_a_step_on_a_cpu_returns_a_number_that_is_known(tiny: TinyLearners, batch: Batch) -> None:
    """The loop reads a plain number at once, and others a step late."""
    assert type(tiny.learner("sgd").train_step(batch, 0.1, 0)) is float


@pytest.mark.req("R1", "R2")
def test_images_of_any_size_get_a_class_for_each_pixel(tiny: TinyLearners) -> None:
    learner = tiny.learner("sgd")
    for size in ((1, 1), (9, 40), (33, 17)):
        images = np.zeros((2, *size, 3), np.uint8)
        classes, _ = learner.evaluate(Batch(images, images[..., 0]))
        assert classes.shape == (2, *size)
        assert classes.dtype == np.uint8
        assert classes.max() < 3


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice+ce"])
def test_a_batch_without_a_labelled_pixel_has_no_loss_and_no_gradient(
    tiny: TinyLearners, batch: Batch, loss: str
) -> None:
    ignored = dataclasses.replace(batch, labels=np.full_like(batch.labels, IGNORED))
    learner = tiny.learner("sgd", loss=loss, weight_decay=0.0)
    before = learner.parameters()
    assert learner.train_step(ignored, 0.1, 0) == 0
    after = learner.parameters()
    for name, array in before.items():
        if "running" not in name:
            np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_evaluating_leaves_the_training_as_it_is(tiny: TinyLearners, batch: Batch) -> None:
    def losses(between: bool) -> list[float]:
        learner = tiny.learner("adam")
        found = [float(learner.train_step(batch, 0.001, 0))]
        if between:
            learner.evaluate(Batch(batch.images[:1, :20], batch.labels[:1, :20]))
        return [*found, float(learner.train_step(batch, 0.001, 1))]

    assert losses(True) == losses(False)


def test_saved_parameters_make_an_equal_learner(tiny: TinyLearners, batch: Batch, tmp_path: Path) -> None:
    first, second = tiny.learner("sgd", 1), tiny.learner("sgd", 2)
    first.train_step(batch, 0.1, 0)
    write_params(tmp_path / "model_algo-1", first.parameters())
    second.load(read_params(tmp_path / "model_algo-1"), "model_algo-1")
    write_params(tmp_path / "again", second.parameters())
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model_algo-1").read_bytes()
    np.testing.assert_array_equal(first.evaluate(batch)[0], second.evaluate(batch)[0])


def test_parameters_without_the_auxiliary_head_leave_it_alone(tiny: TinyLearners) -> None:
    first, second = tiny.learner("sgd", 1), tiny.learner("sgd", 2)
    arrays, kept = first.parameters(), second.parameters()
    second.load({name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}, "first")
    for name, array in second.parameters().items():
        np.testing.assert_array_equal(array, (kept if name.startswith("auxlayer.") else arrays)[name])


def test_without_aux_loss_the_auxiliary_head_stays(tiny: TinyLearners, batch: Batch) -> None:
    learner = tiny.learner("sgd", aux_loss=False)
    before = learner.parameters()
    learner.train_step(batch, 0.1, 0)
    after, state = learner.parameters(), learner.state()
    for name, array in before.items():
        assert (after[name] == array).all() == name.startswith("auxlayer."), name
    assert not any(name.startswith("optimizer/auxlayer.") for name in state)
    assert f"parameter/{tiny.last.replace('head', 'auxlayer')}.bias" in state


def test_a_clipped_gradient_keeps_its_direction(tiny: TinyLearners, batch: Batch) -> None:
    """Of plain sgd, whose first step is the gradient by the learning rate."""

    def step(**optimizer: float) -> np.ndarray[Any, Any]:
        learner = tiny.learner("sgd", momentum=0.0, weight_decay=0.0, **optimizer)
        before = learner.parameters()
        learner.train_step(batch, 1.0, 0)
        after = learner.parameters()
        steps = {name: (after[name] - before[name]).ravel() for name in before if "running" not in name}
        heads = ("head.", "auxlayer.")
        return np.concatenate(
            [array / (tiny.rate_of_heads if name.startswith(heads) else 1) for name, array in steps.items()]
        )

    free, long, short = step(), step(gradient_clip=1e6), step(gradient_clip=1e-3)
    np.testing.assert_array_equal(free, long)
    assert np.linalg.norm(short) == pytest.approx(1e-3 / len(batch), rel=1e-2)
    np.testing.assert_allclose(short / np.linalg.norm(short), free / np.linalg.norm(free), atol=1e-2)


def test_the_validation_loss_is_the_cross_entropy_of_the_pixels_that_count(tiny: TinyLearners, batch: Batch) -> None:
    """With the weights of the last layer 0, its biases are the logits of each pixel."""
    learner = tiny.learner("sgd")
    arrays = learner.parameters()
    logits = np.array([1.0, -0.5, 0.25], np.float32)
    weight = f"{tiny.last}.weight"
    learner.load(arrays | {weight: 0 * arrays[weight], f"{tiny.last}.bias": logits}, "here")
    labels = batch.labels.copy()
    labels[:, 20:] = IGNORED  # of 16 rows each of classes 0 and 1, 16 and 4 are left
    classes, loss = learner.evaluate(Batch(batch.images, labels))
    shares = np.exp(logits) / np.exp(logits).sum()
    assert loss == pytest.approx(-(16 * np.log(shares[0]) + 4 * np.log(shares[1])) / 20, rel=1e-5)
    assert not classes.any()
    assert learner.evaluate(Batch(batch.images, np.full_like(labels, IGNORED)))[1] == 0
