"""Untrained networks by the names of the hyperparameters: their arrays and their files, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from semseg.codecs.params import write_params
from semseg.engines.protocols import LearnerSpecification, OptimizerSettings
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays

ALGORITHMS = [network.name for network in NETWORKS if "mxnet" in network.bytes_per_pixel]
ENCODERS = [backbone.name for backbone in BACKBONES]
"""The names of networks and backbones, for tests of each."""


def initial_arrays(algorithm: str, backbone: str, num_classes: int, seed: int = 0, aux: bool = True) -> Arrays:
    """The parameters that a training from scratch begins with."""
    table = parameter_table(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), num_classes, aux)
    return initial_values(table, seed)


def random_arrays(algorithm: str, backbone: str, num_classes: int) -> Arrays:
    """Parameters of which no offset and no running statistic is 0 or 1, as after a training."""
    rng = np.random.default_rng(7)
    arrays = initial_arrays(algorithm, backbone, num_classes)
    for name, array in arrays.items():
        if name.endswith((".gamma", ".running_var")):
            arrays[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        elif name.endswith((".beta", ".running_mean", ".bias")):
            arrays[name] = rng.normal(0, 0.2, array.shape).astype(np.float32)
    return arrays


def write_model(directory: Path, algorithm: str = "fcn", backbone: str = "resnet-50", num_classes: int = 3) -> Path:
    """Writes the artifact of an untrained network to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    write_params(directory / "model_best.params", initial_arrays(algorithm, backbone, num_classes))
    return directory


def specification(
    algorithm: str = "fcn",
    num_classes: int = 3,
    optimizer: str = "sgd",
    *,
    backbone: str = "resnet-50",
    aux_loss: bool = True,
    class_weights: tuple[float, ...] | None = None,
    **settings: Any,
) -> LearnerSpecification:
    """The specification of a learner, with further settings of the optimizer."""
    return LearnerSpecification(
        by_name(algorithm, NETWORKS),
        by_name(backbone, BACKBONES),
        num_classes,
        OptimizerSettings(optimizer, **settings),
        class_weights=class_weights,
        aux_loss=aux_loss,
    )
