from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import learner_from_scratch
from untrained import specification

from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.learner import GluonLearner
from semseg.engines.gluon.losses import BalancedLoss, MixedCrossEntropy
from semseg.engines.protocols import Learner
from semseg.types import IGNORED, Batch


def _learner(seed: int = 0, **settings: Any) -> Learner:
    return learner_from_scratch(specification(optimizer="adam", **settings), seed)


@pytest.mark.req("R1", "R8")
def test_a_network_learns_what_it_is_shown(batch: Batch) -> None:
    learner = _learner()
    losses = [float(learner.train_step(batch, 0.001, seed)) for seed in range(8)]
    assert losses[-1] < losses[0] / 2


def test_two_trainings_of_one_seed_are_equal_and_of_two_seeds_are_not(batch: Batch) -> None:
    def losses(seed: int) -> list[float]:
        learner = _learner(seed)
        return [float(learner.train_step(batch, 0.001, 100 * seed + step)) for step in range(3)]

    assert losses(0) == losses(0) != losses(1)


def test_the_seed_of_a_step_fixes_its_dropout(batch: Batch, model: Any, mx: Any) -> None:
    learner = GluonLearner(specification(), mx.cpu(), model)
    first, second, third = (float(learner.train_step(batch, 0.0, seed)) for seed in (1, 1, 2))
    assert first == second != third


@pytest.mark.req("R1", "R2")
@pytest.mark.parametrize("size", [(1, 1), (9, 40), (33, 17)])
def test_pictures_of_any_size_get_a_class_for_each_pixel(size: tuple[int, int]) -> None:
    images = np.zeros((2, *size, 3), np.uint8)
    classes, _ = _learner().evaluate(Batch(images, images[..., 0]))
    assert classes.shape == (2, *size)
    assert classes.dtype == np.uint8
    assert classes.max() < 3


@pytest.mark.parametrize("tunes", [True, False])
def test_cudnn_times_its_algorithms_for_the_crops_of_training_alone(
    model: Any, batch: Batch, mx: Any, monkeypatch: pytest.MonkeyPatch, tunes: bool
) -> None:
    """What the convolutions ask for shows while a graph is made of them; a CPU takes no notice."""
    seen: list[str | None] = []

    def watch(layer: Any) -> None:
        if isinstance(layer, mx.gluon.nn.Conv2D):
            layer.register_forward_pre_hook(lambda layer, _: seen.append(layer._kwargs.get("cudnn_tune")))

    monkeypatch.setattr(runtime, "tunes", lambda: tunes)
    learner = GluonLearner(specification(), mx.cpu(), model)
    model.apply(watch)
    learner.train_step(batch, 0.001, 0)
    assert len(seen) > 50
    assert set(seen) == {"limited_workspace" if tunes else None}
    seen.clear()
    learner.evaluate(batch)
    assert len(seen) > 50
    assert set(seen) == {None}


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


def test_the_graph_of_training_says_so_in_its_operators(model: Any, mx: Any) -> None:
    def tuned(**choice: bool) -> set[str | None]:
        (logits,) = networks.LowResolutionLogits(model, **choice)(mx.sym.var("data"))
        nodes = json.loads(logits.tojson())["nodes"]
        return {node["attrs"].get("cudnn_tune") for node in nodes if node["op"] == "Convolution"}

    assert tuned(tuned=True) == {"limited_workspace"}
    assert tuned() == {None}


def test_a_batch_without_a_labelled_pixel_has_no_loss(batch: Batch) -> None:
    ignored = dataclasses.replace(batch, labels=np.full_like(batch.labels, IGNORED))
    assert float(_learner().train_step(ignored, 0.001, 0)) == 0


def test_evaluating_leaves_the_training_as_it_is(batch: Batch) -> None:
    def losses(between: bool) -> list[float]:
        learner = _learner()
        found = [float(learner.train_step(batch, 0.001, 0))]
        if between:
            learner.evaluate(Batch(batch.images[:1, :20], batch.labels[:1, :20]))
        return [*found, float(learner.train_step(batch, 0.001, 1))]

    assert losses(True) == losses(False)


def test_saved_parameters_make_an_equal_learner(batch: Batch, tmp_path: Path) -> None:
    first, second = _learner(1), _learner(2)
    first.train_step(batch, 0.001, 0)
    second.evaluate(batch)  # leaves the weights in oneDNN's layout
    write_params(tmp_path / "model_algo-1", first.parameters())
    second.load(read_params(tmp_path / "model_algo-1"), "model_algo-1")
    write_params(tmp_path / "again", second.parameters())
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model_algo-1").read_bytes()
    np.testing.assert_array_equal(first.evaluate(batch)[0], second.evaluate(batch)[0])


def test_parameters_without_the_auxiliary_head_leave_it_alone(tmp_path: Path) -> None:
    first, second = _learner(1), _learner(2)
    write_params(tmp_path / "first", first.parameters())
    write_params(tmp_path / "second", second.parameters())
    arrays, kept = read_params(tmp_path / "first"), read_params(tmp_path / "second")
    second.load({name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}, "first")
    write_params(tmp_path / "loaded", second.parameters())
    for name, array in read_params(tmp_path / "loaded").items():
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
    loss: str, weights: tuple[float, ...] | None, balanced: bool, model: Any, mx: Any
) -> None:
    wanted = dataclasses.replace(specification(), loss=loss, class_weights=weights, aux_weight=0.25)
    found = GluonLearner(wanted, mx.cpu(), model)._criterion
    expected = BalancedLoss(loss, weights, 3, 0.25) if balanced else MixedCrossEntropy(0.25)
    assert type(found) is type(expected)
    assert all(np.array_equal(value, vars(expected)[name]) for name, value in vars(found).items())
