"""Arrays, files and learner specifications of untrained networks, by hyperparameter values, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semseg.codecs.params import write_params
from semseg.engines.protocols import LearnerSpecification, OptimizerSettings
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays

ALGORITHMS = [network.name for network in NETWORKS if "mxnet" in network.bytes_per_pixel]
ENCODERS = [backbone.name for backbone in BACKBONES]
"""The hyperparameter values for networks and backbones."""


def initial_arrays(algorithm: str, backbone: str, num_classes: int, seed: int = 0, aux: bool = True) -> Arrays:
    """The initial parameters of a training from scratch."""
    table = parameter_table(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), num_classes, aux)
    return initial_values(table, seed)


def write_model(directory: Path, algorithm: str = "fcn", backbone: str = "resnet-50", num_classes: int = 3) -> Path:
    """Writes an untrained network to a model directory, which is created if needed, and returns it."""
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
    """A learner's specification; settings: further settings of the optimizer."""
    return LearnerSpecification(
        by_name(algorithm, NETWORKS),
        by_name(backbone, BACKBONES),
        num_classes,
        OptimizerSettings(optimizer, **settings),
        class_weights=class_weights,
        aux_loss=aux_loss,
    )
