"""An engine that trains a small network with numpy, in a moment, for tests of what surrounds the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from fake_backend import OnHost
from small_model import known
from socket_group import SocketGroup

from semseg.engines import choose
from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import Device, LearnerSpecification
from semseg.errors import DeviceError
from semseg.inference.predictor import normalise
from semseg.networks.definitions import Backbone, Network
from semseg.networks.layers import Layers, T
from semseg.networks.parameters import require_fit
from semseg.training import components
from semseg.types import IGNORED, Arrays, Batch, Float32, UInt8

_CHANNELS = 8
_FEATURES = ("first", "second", "third")
_TRAINED = ("last.weight", "last.bias")
_MOMENTUM = 0.9


def _stages(layers: Layers[T], image: T) -> Sequence[T]:
    x = image
    for name in _FEATURES:
        x = layers.relu(layers.convolution(x, name, _CHANNELS))
    return [x]


BACKBONE = Backbone("resnet-50", "Features", _stages)
NETWORK = Network(
    "fcn",
    "Linear",
    head=lambda layers, stages, num_classes: layers.convolution(stages[-1], "last", num_classes),
    auxiliary=None,
    classifier="last",
    stride=1,
    bytes_per_pixel={"small": 100, "openvino": 100},
)
"""Four 1 x 1 convolutions of the pixels, by the names of hyperparameters."""


class SmallLearner(OnHost):
    """Fits the last layer of the network by gradient descent with momentum; drops channels of its input by the seed.

    Its parameters depend on every batch, rate and seed, and on the state that it resumes from. The ranks of a group
    train as one process, but for rounding.
    """

    stride = 1

    def __init__(self, arrays: Arrays, group: Group = ALONE) -> None:
        self._group = group
        self._arrays = dict(arrays)
        self._momentum = {name: np.zeros_like(arrays[name]) for name in _TRAINED}

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> float:
        features = self._features(_normalised(batch.images))
        features *= np.random.default_rng(seed).random((1, _CHANNELS, 1, 1)) < 0.9
        probabilities, loss = self._compared(features, batch.labels)
        valid = int(_valid(batch.labels).sum())
        wanted = batch.labels[:, None] == np.arange(probabilities.shape[1])[:, None, None]
        error = np.where(_valid(batch.labels), probabilities - wanted, 0)
        gradients = np.einsum("nkhw,nchw->kc", error, features)[..., None, None], error.sum(axis=(0, 2, 3))
        total_loss, total_valid, pixels = self._group.sum(np.array([loss * valid, valid, batch.labels.size]))
        for name, gradient in zip(_TRAINED, gradients, strict=True):
            mean = self._group.sum(gradient.astype(np.float64)) / pixels
            self._momentum[name] = (_MOMENTUM * self._momentum[name] - learning_rate * mean).astype(np.float32)
            self._arrays[name] = self._arrays[name] + self._momentum[name]
        return float(total_loss / max(1, total_valid))

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        probabilities, loss = self._compared(self._features(_normalised(batch.images)), batch.labels)
        return probabilities.argmax(axis=1).astype(np.uint8), loss

    def logits(self, images: Float32) -> Float32:
        return self._convolution(self._features(images), "last")

    def load(self, arrays: Arrays, origin: str) -> None:
        require_fit(self._arrays, arrays, origin)
        self._arrays = {name: np.array(array) for name, array in arrays.items()}

    def parameters(self) -> Arrays:
        return dict(self._arrays)

    def state(self) -> Arrays:
        momentum = {f"optimizer/{name}": array for name, array in self._momentum.items()}
        return momentum | {f"parameter/{name}": array for name, array in self._arrays.items()}

    def restore(self, arrays: Arrays, origin: str) -> None:
        self._momentum = {name: np.array(arrays[f"optimizer/{name}"]) for name in self._momentum}
        self.load({name: arrays[f"parameter/{name}"] for name in self._arrays}, origin)

    def _features(self, images: Float32) -> Float32:
        """Normalised RGB (N, 3, H, W) -> the inputs of the last layer, (N, channels, H, W)."""
        x = images
        for name in _FEATURES:
            x = np.maximum(self._convolution(x, name), 0)
        return x

    def _convolution(self, x: Float32, name: str) -> Float32:
        weight, bias = self._arrays[f"{name}.weight"][..., 0, 0], self._arrays[f"{name}.bias"]
        out: Float32 = np.einsum("kc,nchw->nkhw", weight, x) + bias[:, None, None]
        return out

    def _compared(self, features: Float32, labels: UInt8) -> tuple[Float32, float]:
        """The probabilities of the classes, (N, C, H, W), and their mean cross entropy over the valid pixels."""
        logits = self._convolution(features, "last")
        logits -= logits.max(axis=1, keepdims=True)
        log_likelihoods = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        valid = _valid(labels)
        wanted = np.take_along_axis(log_likelihoods, np.where(valid, labels[:, None], 0).astype(np.int64), axis=1)
        return np.exp(log_likelihoods), -float(np.where(valid, wanted, 0).sum()) / max(1, int(valid.sum()))


def _normalised(images: UInt8) -> Float32:
    empty = np.zeros((0, 3, *images.shape[1:3]), np.float32)
    return np.concatenate([empty, *(normalise(image) for image in images)])


def _valid(labels: UInt8) -> Any:
    return labels[:, None] != IGNORED


class SmallEngine:
    """Trains this network on the CPU."""

    name, title, installation, trains_in_groups = "small", "Small", "install numpy", True

    def is_installed(self) -> bool:
        return True

    def is_for_gpus(self) -> bool:
        return False

    def find_device(self, required: bool) -> Device:
        if required:
            raise DeviceError("numpy computes on CPUs only.", "Take another engine.")
        return self.cpu()

    def cpu(self) -> Device:
        return Device("CPU")

    def precisions(self, _: Device, /) -> tuple[str, ...]:
        return ("float32",)

    def join(self, membership: Membership, _: Device, /) -> Group:
        return SocketGroup(membership)

    def learner(
        self, _: LearnerSpecification, arrays: Arrays, origin: str, __: Device, group: Group = ALONE, /
    ) -> SmallLearner:
        return SmallLearner(arrays, group)

    def backend(self, *_: object) -> Any:
        raise NotImplementedError


@contextmanager
def small_training(with_torch: bool = False) -> Iterator[None]:
    """While it lasts this process trains the small network instead of the declared ones, and reads its artifacts.

    with_torch: with PyTorch, instead of numpy.
    """
    engine: Any = choose.TORCH if with_torch else SmallEngine()
    network = replace(NETWORK, bytes_per_pixel={**NETWORK.bytes_per_pixel, engine.name: 100})
    with (
        known((network,), (BACKBONE,)),
        patch.multiple(components, NETWORKS=(network,), BACKBONES=(BACKBONE,)),
        patch.object(choose, "WITH_LEARNERS", (engine,)),
    ):
        yield
