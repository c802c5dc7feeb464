"""A tiny network with the parts of FCN, which trains in milliseconds on an engine that takes any definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from semseg.engines.protocols import LearnerSpecification, OptimizerSettings
from semseg.networks.definitions import AUXILIARY, Backbone, Head, Network
from semseg.networks.layers import Layers, T
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import Arrays


def _stages(layers: Layers[T], image: T) -> Sequence[T]:
    x = layers.max_pool(layers.relu(layers.convolution(image, "conv1", 4, 3, stride=2, norm="bn1")))
    stages = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = layers.relu(layers.convolution(x, f"{name}.0", 4, 3, norm=f"{name}.1"))
        stages.append(x)
    return stages


def _head(name: str, stage: int) -> Head:
    def head(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
        x = layers.relu(layers.convolution(stages[stage], f"{name}0", 4, 3, norm=f"{name}1"))
        return layers.convolution(layers.dropout(x, 0.1), f"{name}4", num_classes)

    return head


BACKBONE = Backbone("tiny", "Tiny", _stages)
NETWORK = Network("tiny", "Tiny", _head("head.", -1), _head(AUXILIARY, -2), "head.4", 4, {"torch": 100, "mxnet": 100})

MakeLearner = Callable[..., Any]
"""Makes a learner of this network with its initial values: `tiny_learner("adam", seed=1)`."""


@dataclass(frozen=True)
class TinyLearners:
    """An engine's learners of a tiny network with the parts of FCN.

    learner: makes one, on the CPU; last: the name of the last layer; rate_of_heads: how much faster the heads learn.
    """

    learner: MakeLearner
    last: str
    rate_of_heads: float


def specification(
    optimizer: str = "sgd",
    classes: int = 3,
    *,
    loss: str = "cross_entropy",
    weights: tuple[float, ...] | None = None,
    aux_loss: bool = True,
    **settings: Any,
) -> LearnerSpecification:
    """The specification of a learner, with further settings of the optimizer."""
    return LearnerSpecification(
        NETWORK, BACKBONE, classes, OptimizerSettings(optimizer, **settings), loss, weights, aux_loss
    )


def tiny_arrays(classes: int = 3, seed: int = 0) -> Arrays:
    """The parameters that a training from scratch begins with."""
    return initial_values(parameter_table(NETWORK, BACKBONE, classes), seed)
