from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import tiny_model
from untrained import specification

from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.learner import GluonLearner
from semseg.engines.gluon.losses import BalancedLoss, MixedCrossEntropy
from semseg.types import IGNORED, Batch


@pytest.mark.req("R1", "R8")
def test_a_network_learns_what_its_masks_show(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    learner = tiny_learner("adam")
    losses = [float(learner.train_step(batch, 0.01, seed)) for seed in range(40)]
    assert losses[-1] < losses[0] / 2


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(
    tiny_learner: Callable[..., Any], batch: Batch
) -> None:
    def losses(seed: int) -> list[float]:
        learner = tiny_learner("adam", seed)
        return [float(learner.train_step(batch, 0.001, 100 * seed + step)) for step in range(3)]

    assert losses(0) == losses(0) != losses(1)


def test_the_seed_of_a_step_fixes_its_dropout(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    learner = tiny_learner("sgd")
    first, second, third = (float(learner.train_step(batch, 0.0, seed)) for seed in (1, 1, 2))
    assert first == second != third


@pytest.mark.req("R1", "R2")
def test_images_of_any_size_get_a_class_for_each_pixel(tiny_learner: Callable[..., Any]) -> None:
    learner = tiny_learner("sgd")
    for size in ((1, 1), (9, 40), (33, 17)):
        images = np.zeros((2, *size, 3), np.uint8)
        classes, _ = learner.evaluate(Batch(images, images[..., 0]))
        assert classes.shape == (2, *size)
        assert classes.dtype == np.uint8
        assert classes.max() < 3


@pytest.mark.parametrize("tunes", [True, False])
def test_cudnn_times_its_algorithms_for_the_crops_of_training_alone(
    batch: Batch, mx: Any, monkeypatch: pytest.MonkeyPatch, tunes: bool
) -> None:
    """What the convolutions ask for shows while a graph is made of them; a CPU takes no notice."""
    choices: list[str | None] = []

    def watch(layer: Any) -> None:
        if isinstance(layer, mx.gluon.nn.Conv2D):
            layer.register_forward_pre_hook(lambda layer, _: choices.append(layer._kwargs.get("cudnn_tune")))

    monkeypatch.setattr(runtime, "tunes", lambda: tunes)
    model = tiny_model(3)
    learner = GluonLearner(specification(), [mx.cpu()], model)
    model.apply(watch)
    learner.train_step(batch, 0.001, 0)
    assert len(choices) == 7
    assert set(choices) == {"limited_workspace" if tunes else None}
    choices.clear()
    learner.evaluate(batch)
    assert len(choices) == 6  # without the auxiliary head's
    assert set(choices) == {None}


def test_a_cpu_trains_the_same_whether_cudnn_is_to_time_or_not(
    tiny_learner: Callable[..., Any], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(tunes: bool) -> dict[str, Any]:
        monkeypatch.setattr(runtime, "tunes", lambda: tunes)
        learner = tiny_learner("sgd")
        learner.train_step(batch, 0.1, 0)
        return dict(learner.parameters())

    with_attribute, without = trained(True), trained(False)
    assert with_attribute.keys() == without.keys()
    for name, array in with_attribute.items():
        np.testing.assert_array_equal(array, without[name])


def test_the_graph_of_training_says_so_in_its_operators(mx: Any) -> None:
    def tuned(**choice: bool) -> set[str | None]:
        (logits,) = networks.LowResolutionLogits(tiny_model(3), **choice)(mx.sym.var("data"))
        nodes = json.loads(logits.tojson())["nodes"]
        return {node["attrs"].get("cudnn_tune") for node in nodes if node["op"] == "Convolution"}

    assert tuned(tuned=True) == {"limited_workspace"}
    assert tuned() == {None}


def test_a_batch_without_a_labelled_pixel_has_no_loss(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    ignored = dataclasses.replace(batch, labels=np.full_like(batch.labels, IGNORED))
    assert float(tiny_learner("sgd").train_step(ignored, 0.001, 0)) == 0


def test_evaluating_leaves_the_training_as_it_is(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    def losses(between: bool) -> list[float]:
        learner = tiny_learner("adam")
        found = [float(learner.train_step(batch, 0.001, 0))]
        if between:
            learner.evaluate(Batch(batch.images[:1, :20], batch.labels[:1, :20]))
        return [*found, float(learner.train_step(batch, 0.001, 1))]

    assert losses(True) == losses(False)


def test_saved_parameters_make_an_equal_learner(mx: Any, batch: Batch, tmp_path: Path) -> None:
    """Of 16 channels, whose weights an inference leaves in oneDNN's layout."""
    first, second = (GluonLearner(specification(), [mx.cpu()], tiny_model(3, channels=16)) for _ in range(2))
    first.train_step(batch, 0.001, 0)
    second.evaluate(batch)
    write_params(tmp_path / "model_algo-1", first.parameters())
    second.load(read_params(tmp_path / "model_algo-1"), "model_algo-1")
    write_params(tmp_path / "again", second.parameters())
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model_algo-1").read_bytes()
    np.testing.assert_array_equal(first.evaluate(batch)[0], second.evaluate(batch)[0])


def test_parameters_without_the_auxiliary_head_leave_it_alone(tiny_learner: Callable[..., Any]) -> None:
    first, second = tiny_learner("sgd", 1), tiny_learner("sgd", 2)
    arrays, kept = first.parameters(), second.parameters()
    second.load({name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}, "first")
    for name, array in second.parameters().items():
        np.testing.assert_array_equal(array, (kept if name.startswith("auxlayer.") else arrays)[name])


def test_a_clipped_gradient_keeps_its_direction(tiny_learner: Callable[..., Any], batch: Batch) -> None:
    """Of plain sgd, whose first step is the gradient by the learning rate."""

    def step(**optimizer: float) -> np.ndarray[Any, Any]:
        learner = tiny_learner("sgd", momentum=0.0, weight_decay=0.0, **optimizer)
        before = learner.parameters()
        learner.train_step(batch, 1.0, 0)
        after = learner.parameters()
        return np.concatenate([(after[name] - before[name]).ravel() for name in before if "running" not in name])

    free, long, short = step(), step(gradient_clip=1e6), step(gradient_clip=1e-3)
    np.testing.assert_array_equal(free, long)
    assert np.linalg.norm(short) == pytest.approx(1e-3 / len(batch), rel=1e-2)
    np.testing.assert_allclose(short / np.linalg.norm(short), free / np.linalg.norm(free), atol=1e-2)


def test_the_validation_loss_is_the_cross_entropy_of_the_pixels_that_count(
    tiny_learner: Callable[..., Any], batch: Batch, mx: Any
) -> None:
    """With the weights of the last layer 0, its biases are the logits of each pixel."""
    learner = tiny_learner("sgd")
    arrays = learner.parameters()
    logits = np.array([1.0, -0.5, 0.25], np.float32)
    learner.load(arrays | {"head.2.weight": 0 * arrays["head.2.weight"], "head.2.bias": logits}, "here")
    labels = batch.labels.copy()
    labels[:, 20:] = IGNORED  # of 16 rows each of classes 0 and 1, 16 and 4 are left
    classes, loss = learner.evaluate(Batch(batch.images, labels))
    shares = np.exp(logits) / np.exp(logits).sum()
    assert loss == pytest.approx(-(16 * np.log(shares[0]) + 4 * np.log(shares[1])) / 20, rel=1e-5)
    assert not classes.any()
    assert learner.evaluate(Batch(batch.images, np.full_like(labels, IGNORED)))[1] == 0


@pytest.mark.parametrize(
    ("loss", "weights", "balanced"),
    [("cross_entropy", None, False), ("cross_entropy", (1.0, 2.0, 3.0), True), ("dice+ce", None, True)],
)
def test_the_criterion_is_gluoncvs_unless_something_else_is_asked_for(
    loss: str, weights: tuple[float, ...] | None, balanced: bool, mx: Any
) -> None:
    wanted = dataclasses.replace(specification(), loss=loss, class_weights=weights, aux_weight=0.25)
    found = GluonLearner(wanted, [mx.cpu()], tiny_model(3))._criterion
    expected = BalancedLoss(loss, weights, 3, 0.25) if balanced else MixedCrossEntropy(0.25)
    assert type(found) is type(expected)
    assert all(np.array_equal(value, vars(expected)[name]) for name, value in vars(found).items())
