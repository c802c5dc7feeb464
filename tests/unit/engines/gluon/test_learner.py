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
from semseg.types import Batch


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
