"""The network whose accuracy the bench `engines` compares: FCN on a plain encoder small enough for many trainings."""

from __future__ import annotations

from collections.abc import Sequence

from semseg.networks.definitions import AUXILIARY, Backbone, Head, Network
from semseg.networks.layers import Layers, T

CHANNELS, HEAD_CHANNELS, DROPOUT = 32, 32, 0.1
DILATIONS = {"layer1": 1, "layer2": 1, "layer3": 2, "layer4": 4}


def _stages(layers: Layers[T], image: T) -> Sequence[T]:
    x = layers.max_pool(layers.relu(layers.convolution(image, "conv1", CHANNELS, 3, stride=2, norm="bn1")))
    stages = []
    for name, dilation in DILATIONS.items():
        x = layers.relu(layers.convolution(x, f"{name}.0", CHANNELS, 3, dilation=dilation, norm=f"{name}.1"))
        stages.append(x)
    return stages


def _head(name: str, stage: int) -> Head:
    def head(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
        x = layers.relu(layers.convolution(stages[stage], f"{name}0", HEAD_CHANNELS, 3, norm=f"{name}1"))
        return layers.convolution(layers.dropout(x, DROPOUT), f"{name}4", num_classes)

    return head


BACKBONE = Backbone("resnet-50", "Plain", _stages)
NETWORK = Network("fcn", "FCN", _head("head.", -1), _head(AUXILIARY, -2), "head.4", 4, {"torch": 100, "mxnet": 100})
"""Under names of declared ones, as hyperparameters allow no others."""
