"""Computes with MXNet what `golden` describes; as a script it writes that to the file in tests/stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from gluon_models import DoubleLearner, without_dropout
from golden import (
    CLASSES,
    HEADS_RATE,
    IMAGES,
    PATH,
    RATES,
    SIZES,
    STEP_RATE,
    STEPS,
    TRAINING,
    first_values,
    gradients,
    logits_name,
    normalised_image,
    optimizer_settings,
    state_name,
    training_batch,
    update_name,
)
from untrained import ALGORITHMS, ENCODERS, initial_arrays, random_arrays, specification

from semseg.codecs.params import write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.optimizers import mxnet_arguments
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Arrays

mx = runtime.load()


def golden() -> Arrays:
    """All that is stored, computed anew."""
    found: Arrays = {}
    for algorithm in ALGORITHMS:
        for backbone in ENCODERS:
            found |= logits(algorithm, backbone)
    for name in OPTIMIZERS:
        found |= updates(name)
    return found | {TRAINING: losses()}


def logits(algorithm: str, backbone: str) -> Arrays:
    """Both heads' logits at each size."""
    model = networks.build(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES, mx.cpu())
    networks.assign(networks.parameters(model), random_arrays(algorithm, backbone, CLASSES), "golden")
    network = networks.LowResolutionLogits(model, aux=True)
    return {
        logits_name(algorithm, backbone, size, head): array.asnumpy()
        for size in SIZES
        for head, array in zip(
            ("main", "auxiliary"), network(runtime.to_device(normalised_image(*size), mx.cpu())), strict=True
        )
    }


def updates(name: str) -> Arrays:
    """The tensors after each update with an optimizer, and its states after the last."""
    arguments = mxnet_arguments(optimizer_settings(name))
    optimizer = mx.optimizer.create(name, rescale_grad=1 / IMAGES, **arguments)
    optimizer.set_lr_mult({1: HEADS_RATE})
    updater = mx.optimizer.get_updater(optimizer)
    weights = {key: runtime.to_device(array, mx.cpu()) for key, array in first_values().items()}
    history: dict[str, list[Any]] = {key: [] for key in weights}
    for rate, drawn in zip(RATES, gradients(), strict=True):
        optimizer.set_learning_rate(rate)
        for index, (key, weight) in enumerate(weights.items()):
            updater(index, runtime.to_device(drawn[key], mx.cpu()), weight)
            history[key].append(weight.asnumpy())
    found = {update_name(name, key): np.stack(arrays) for key, arrays in history.items()}
    for index, key in enumerate(weights):
        held = updater.states[index]
        for number, state in enumerate(held if isinstance(held, tuple) else [held]):
            found[state_name(name, f"{key}/{number}")] = state.asnumpy()
    return found


def losses() -> Any:
    """The losses of training."""
    model = networks.build(by_name("fcn", NETWORKS), by_name("resnet-50", BACKBONES), CLASSES, mx.cpu())
    networks.assign(networks.parameters(model), initial_arrays("fcn", "resnet-50", CLASSES), "golden")
    without_dropout(model)
    model.cast("float64")
    learner, batch = DoubleLearner(specification("fcn", CLASSES), [mx.cpu()], model), training_batch()
    return np.array([float(learner.train_step(batch, STEP_RATE, seed)) for seed in range(STEPS)])


if __name__ == "__main__":
    write_params(PATH, golden())
