"""GluonCV's networks with initial values, by the words of the hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semseg.codecs.params import write_params
from semseg.engines.choose import training_engine
from semseg.engines.protocols import Learner, LearnerSpecification, OptimizerSettings
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays

ALGORITHMS = [network.name for network in NETWORKS if "mxnet" in network.bytes_per_pixel]
ENCODERS = [backbone.name for backbone in BACKBONES]
"""The words for the networks that MXNet runs, and for the backbones, for tests of each."""


def initial_arrays(algorithm: str, backbone: str, num_classes: int, seed: int = 0, aux: bool = True) -> Arrays:
    """The parameters that a training from scratch begins with."""
    table = parameter_table(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), num_classes, aux)
    return initial_values(table, seed)


def write_model(directory: Path, algorithm: str = "fcn", backbone: str = "resnet-50", num_classes: int = 3) -> Path:
    """Makes a directory the artifact of a network that has learned nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    write_params(directory / "model_best.params", initial_arrays(algorithm, backbone, num_classes))
    return directory


def gluon_model(algorithm: str, backbone: str, num_classes: int, device: Any, aux: bool = True) -> Any:
    """GluonCV's network; equal seeds of MXNet's random numbers give equal values."""
    from semseg.engines.gluon import networks, runtime

    network, encoder = by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES)
    model = networks.build(network, encoder, num_classes, device, aux)
    seed = int(runtime.load().random.randint(0, 1 << 30).asscalar())
    networks.assign(networks.parameters(model), initial_arrays(algorithm, backbone, num_classes, seed, aux), "a test")
    return model


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
    """What a learner is to be, with the optimizer's further settings."""
    return LearnerSpecification(
        by_name(algorithm, NETWORKS),
        by_name(backbone, BACKBONES),
        num_classes,
        OptimizerSettings(optimizer, **settings),
        class_weights=class_weights,
        aux_loss=aux_loss,
    )


def learner_from_scratch(wanted: LearnerSpecification, seed: int = 0) -> Learner:
    """MXNet's learner on the CPU, with initial values."""
    engine = training_engine()
    arrays = initial_values(parameter_table(wanted.network, wanted.backbone, wanted.num_classes), seed)
    return engine.learner(wanted, arrays, "initial values", engine.cpu())
