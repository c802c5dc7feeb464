"""GluonCV's networks with initial values, MXNet's learners for them, and a tiny network with the parts of FCN."""

from __future__ import annotations

from typing import Any

from untrained import initial_arrays

from semseg.engines.choose import training_engine
from semseg.engines.gluon import networks, runtime
from semseg.engines.protocols import Learner, LearnerSpecification
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table

mx = runtime.load()
nn = mx.gluon.nn
HybridBlock: Any = mx.gluon.HybridBlock


def gluon_model(algorithm: str, backbone: str, num_classes: int, device: Any, aux: bool = True) -> Any:
    """GluonCV's network; equal seeds of MXNet's random numbers give equal values."""
    network, encoder = by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES)
    model = networks.build(network, encoder, num_classes, device, aux)
    seed = int(mx.random.randint(0, 1 << 30).asscalar())
    networks.assign(networks.parameters(model), initial_arrays(algorithm, backbone, num_classes, seed, aux), "a test")
    return model


def learner_from_scratch(specification: LearnerSpecification, seed: int = 0) -> Learner:
    """MXNet's learner on the CPU, with initial values."""
    engine = training_engine()
    arrays = initial_values(
        parameter_table(specification.network, specification.backbone, specification.num_classes), seed
    )
    return engine.learner(specification, arrays, "initial values", engine.cpu())


class FCN(HybridBlock):  # type: ignore[misc]
    """A tiny network with the parts of GluonCV's FCN; the learner recognises networks by their class name."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(channels, 3, 2, 1, in_channels=3, use_bias=False)
        self.bn1 = nn.BatchNorm(in_channels=channels)
        self.relu, self.maxpool = nn.Activation("relu"), nn.MaxPool2D(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Conv2D(channels, 3, 1, 1, in_channels=channels, use_bias=False) for _ in "1234"
        )
        self.head, self.auxlayer = self._new_head(classes, channels), self._new_head(classes, channels)

    def _new_head(self, classes: int, channels: int) -> Any:
        head = nn.HybridSequential()
        head.add(nn.BatchNorm(in_channels=channels), nn.Dropout(0.1), nn.Conv2D(classes, 1, in_channels=channels))
        return head

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Both heads' logits at the size of the image, as GluonCV's FCN returns them."""
        c3 = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3):
            c3 = layer(c3)
        outputs = self.head(self.layer4(c3)), self.auxlayer(c3)
        return tuple(F.contrib.BilinearResize2D(logits, like=x, mode="like") for logits in outputs)


def tiny_model(classes: int, channels: int = 4) -> Any:
    """The tiny network on the CPU; equal seeds of MXNet's random numbers give equal values."""
    model = FCN(classes, channels)
    model.initialize(mx.init.Xavier())
    return model
