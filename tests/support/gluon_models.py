"""GluonCV's networks with initial values, MXNet's learners for them, and a tiny network with the parts of FCN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tiny_network import TinyLearners
from untrained import initial_arrays, specification

from semseg.engines.choose import MXNET
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.learner import GluonLearner
from semseg.engines.protocols import Learner, LearnerSpecification
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.types import IGNORED, Batch, UInt8

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
    arrays = initial_values(
        parameter_table(specification.network, specification.backbone, specification.num_classes), seed
    )
    return MXNET.learner(specification, arrays, "initial values", MXNET.cpu())


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


class DoubleLearner(GluonLearner):
    """Computes in float64, and the tests at a low rate: in float32 the order of a sum decides percents two steps on.

    Its model must be in float64 already.
    """

    def _normalised(self, images: UInt8, device: Any) -> Any:
        return super()._normalised(images, device).astype("float64")


def without_dropout(model: Any) -> None:
    """Switch off the dropout of a network."""

    def switch_off(block: Any) -> None:
        if isinstance(block, nn.Dropout):
            block._rate = 0

    model.apply(switch_off)


def gluoncv_steps(
    model: Any,
    batch: Batch,
    steps: int,
    rate: float,
    optimizer: str,
    settings: dict[str, Any],
    aux: bool = True,
) -> list[float]:
    """GluonCV's scripts/segmentation/train.py, in short: its criterion, Trainer.step(batch)."""
    from gluoncv.loss import MixSoftmaxCrossEntropyLoss

    criterion = MixSoftmaxCrossEntropyLoss(aux, aux_weight=0.5)
    left_out = set() if aux else set(model.auxlayer.collect_params())
    trained = {name: value for name, value in model.collect_params().items() if name not in left_out}
    trainer = mx.gluon.Trainer(trained, optimizer, {"learning_rate": rate, **settings})
    to_tensor, normalise = (
        mx.gluon.data.vision.transforms.ToTensor(),
        mx.gluon.data.vision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    )
    images = mx.nd.stack(*[normalise(to_tensor(runtime.to_device(image, mx.cpu()))) for image in batch.images]).astype(
        next(iter(trained.values())).dtype
    )
    labels = runtime.to_device(np.where(batch.labels == IGNORED, -1, batch.labels.astype(np.int32)), mx.cpu())
    losses = []
    for _ in range(steps):
        with mx.autograd.record():
            outputs = model(images)
            loss = criterion(*outputs[: 1 + aux], labels)
        loss.backward()
        trainer.step(len(batch))
        losses.append(float(loss.mean().asscalar()))
    return losses


def tiny_model(classes: int, channels: int = 4) -> Any:
    """The tiny network on the CPU; equal seeds of MXNet's random numbers give equal values."""
    model = FCN(classes, channels)
    model.initialize(mx.init.Xavier())
    return model


def tiny_learner(
    optimizer: str,
    seed: int = 0,
    classes: int = 3,
    *,
    weights: tuple[float, ...] | None = None,
    loss: str = "cross_entropy",
    **settings: Any,
) -> GluonLearner:
    """A learner of the tiny network on the CPU, with initial values."""
    mx.random.seed(seed)
    wanted = specification("fcn", classes, optimizer, class_weights=weights, **settings)
    return GluonLearner(replace(wanted, loss=loss), [mx.cpu()], tiny_model(classes))


TINY = TinyLearners(tiny_learner, "head.2", rate_of_heads=1)
