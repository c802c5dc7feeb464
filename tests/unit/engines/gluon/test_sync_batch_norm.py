"""GluonCV's networks with the batch normalisation of the whole batch, on CPU contexts in place of GPUs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from gluon_models import DoubleLearner, gluon_model, without_dropout
from untrained import ALGORITHMS, specification

from semseg.engines.gluon import runtime
from semseg.engines.gluon.sync_batch_norm import SynchronisedNetwork
from semseg.types import IGNORED, Batch


def parts(mx: Any, array: np.ndarray[Any, Any], sizes: list[int]) -> list[Any]:
    split = np.split(array, np.cumsum(sizes)[:-1])
    return [runtime.to_device(part, mx.cpu(number)) for number, part in enumerate(split)]


class Layers:
    """A network of one BatchNorm layer on several devices, as a block that returns a list."""

    def __init__(self, mx: Any, devices: int, channels: int, **settings: Any) -> None:
        class Block(mx.gluon.HybridBlock):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.norm = mx.gluon.nn.BatchNorm(in_channels=channels, **settings)

            def hybrid_forward(self, _: Any, x: Any) -> list[Any]:
                return [self.norm(x)]

        self.block = Block()
        self.block.initialize(ctx=[mx.cpu(number) for number in range(devices)])
        self.norm = self.block.norm


@pytest.mark.parametrize("sizes", [[2, 2], [3, 1, 1], [1]])
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("scale", [True, False])
def test_parts_are_normalised_as_the_whole(mx: Any, sizes: list[int], offset: float, scale: bool) -> None:
    """Also far from 0, where a difference of sums of squares would lose all digits."""
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(sum(sizes), 2, 5, 6)) + offset).astype(np.float32)
    layers = Layers(mx, len(sizes), 2, scale=scale)
    outputs = SynchronisedNetwork(layers.block)(parts(mx, images, sizes))
    assert [len(heads) for heads in outputs] == [1] * len(sizes)
    found = np.concatenate([heads[0].asnumpy() for heads in outputs])
    exact = images.astype(np.float64)
    mean, variance = exact.mean((0, 2, 3), keepdims=True), exact.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, (exact - mean) / np.sqrt(variance + 1e-5), atol=1e-5 * (1 + offset))
    first = mx.cpu(0)
    np.testing.assert_allclose(layers.norm.running_mean.data(first).asnumpy(), 0.1 * mean.ravel(), atol=1e-6 + 1e-7)
    np.testing.assert_allclose(
        layers.norm.running_var.data(first).asnumpy(), 0.9 + 0.1 * variance.ravel(), rtol=1e-5 * (1 + offset / 100)
    )


def test_a_frozen_layer_uses_its_running_statistics(mx: Any) -> None:
    layers = Layers(mx, 2, 2, use_global_stats=True)
    images = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    outputs = SynchronisedNetwork(layers.block)(parts(mx, images, [2, 1]))
    np.testing.assert_allclose(
        np.concatenate([heads[0].asnumpy() for heads in outputs]), images / np.sqrt(1 + 1e-5), rtol=1e-5
    )
    assert not layers.norm.running_mean.data(mx.cpu(0)).asnumpy().any()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_devices_train_gluoncvs_networks_as_one(mx: Any, algorithm: str) -> None:
    """Three images on two devices; in float64, where the order of a sum decides nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (3, 32, 32)).astype(np.uint8)
    labels[0, :9] = IGNORED
    batch = Batch(rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8), labels)

    def trained(devices: int) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
        mx.random.seed(3)
        contexts = [mx.cpu(number) for number in range(devices)]
        model = gluon_model(algorithm, "resnet-50", 3, contexts)
        without_dropout(model)
        model.cast("float64")
        learner = DoubleLearner(dataclasses.replace(specification(algorithm), syncbn=True), contexts, model)
        before = learner.parameters()
        return [float(learner.train_step(batch, 1e-4, seed)) for seed in range(2)], before, learner.parameters()

    (values, before, expected), (found_values, _, found) = trained(1), trained(2)
    assert found_values == pytest.approx(values, rel=1e-9)
    assert list(found) == list(expected)
    for name, array in expected.items():
        change = np.abs(array - before[name]).max()
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-6 * change, err_msg=name)
