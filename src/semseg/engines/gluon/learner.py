"""Trains a network with MXNet on one device or several, one batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np

from semseg.engines import learner_state
from semseg.engines.gluon import faults, networks, optimizer_state, replicas, runtime
from semseg.engines.gluon.losses import BalancedLoss, Criterion, MixedCrossEntropy, Part, log_likelihood
from semseg.engines.gluon.optimizers import mxnet_arguments
from semseg.engines.gluon.sync_batch_norm import SynchronisedNetwork
from semseg.engines.protocols import LearnerSpecification
from semseg.networks.definitions import AUXILIARY
from semseg.types import IGNORED, IMAGENET_MEAN, IMAGENET_STD, Arrays, Batch, Float32, UInt8

logger = logging.getLogger(__name__)

mx = runtime.load()


class GluonLearner:
    """Trains a GluonCV network, by default with GluonCV's own criterion.

    The criterion's value is CE(out) + aux_weight * CE(auxiliary out), each the mean over all pixels of an image, in
    which ignored pixels count as 0. Its gradient is SoftmaxOutput's: the mean over the valid pixels of the batch, both
    heads at weight 1. Without `aux_loss` the auxiliary head is not used, and its parameters do not change.

    On several devices each has a copy of the parameters, and computes a part of the batch. An update is that of one
    device with the whole batch, but for batch normalisation, which with `syncbn` uses the statistics of the whole
    batch, and otherwise those of each part. The running statistics are then the mean of the devices', as Gluon saves
    them.
    """

    def __init__(self, specification: LearnerSpecification, devices: Sequence[Any], model: Any = None) -> None:
        """devices: MXNet contexts; model: a GluonCV network on all of them, None to build the specified one.

        Raises UserError for a network that GluonCV does not have.
        """
        network, optimizer = specification.network, specification.optimizer
        self._devices = list(devices)
        self._model = model or networks.build(network, specification.backbone, specification.num_classes, self._devices)
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["mxnet"]
        self.precision = "f32"
        self._training = networks.LowResolutionLogits(self._model, aux=specification.aux_loss, tuned=runtime.tunes())
        self._inference = networks.LowResolutionLogits(self._model)
        self._training.hybridize(static_alloc=True, static_shape=True)  # all batches have the shape of the crop
        self._inference.hybridize()
        self._criterion = _criterion(specification)
        self._gradient_clip = optimizer.gradient_clip
        several = len(self._devices) > 1
        self._synchronised = SynchronisedNetwork(self._training) if several and specification.syncbn else None
        self._moved = 0  # how many of the first devices have changed their running statistics since all had the same
        used = self._training.collect_params()
        self._statistics, self._trained = (
            {name: value for name, value in used.items() if (value.grad_req == "null") == frozen}
            for frozen in (True, False)
        )
        self._trainer = mx.gluon.Trainer(
            self._trained,
            optimizer.name,
            mxnet_arguments(optimizer),
            kvstore=_kvstore(specification.kvstore) if several else None,
            update_on_kvstore=False,
        )

    @faults.translated(faults.TRAINING_HINT)
    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """Make one update, and return the criterion's value before it, the mean over the images.

        seed: fixes MXNet's random numbers, so the dropout on a CPU; on a GPU, cuDNN's dropout has a seed of its own.
        On a GPU this returns at once, and the value waits for the device. The heads learn ten times as fast, as GluonCV
        sets them. Raises, as all methods do, DeviceMemoryError when the GPU's memory is too small.
        """
        mx.random.seed(seed)
        parts = self._parts(batch)
        inputs = [self._inputs(part, device) for device, part in parts]
        with mx.autograd.record():
            objective = self._criterion(self._computed(batch, [part for _, part in parts], inputs))
        mx.autograd.backward(objective.heads)
        self._update(len(batch), learning_rate, len(parts))
        if self._devices[0].device_type == "cpu":  # signals are handled between calls, so only one long step may run
            mx.nd.waitall()
            return float(objective.value)
        return objective.value

    def _parts(self, batch: Batch) -> list[tuple[Any, Batch]]:
        """The devices and their parts of a batch, whose sizes differ by one image at most; without the empty ones."""
        divided = zip(
            self._devices,
            np.array_split(batch.images, len(self._devices)),
            np.array_split(batch.labels, len(self._devices)),
            strict=True,
        )
        return [(device, Batch(images, labels)) for device, images, labels in divided if len(images)]

    def _computed(self, batch: Batch, parts: Sequence[Batch], inputs: Sequence[tuple[Any, Any]]) -> list[Part]:
        """What the network makes of the parts of a batch, whose `inputs` are on the devices."""
        images = [own for own, _ in inputs]
        outputs = self._synchronised(images) if self._synchronised else [self._training(own) for own in images]
        valid = [_counted(part.labels) for part in parts]
        return [
            Part(
                [networks.resize_like(mx.nd, logits, own) for logits in heads],
                labels,
                images=len(part) / len(batch),
                valid=counted / max(1, sum(valid)),
            )
            for part, heads, counted, (own, labels) in zip(parts, outputs, valid, inputs, strict=True)
        ]

    def _update(self, images: int, learning_rate: float, parts: int) -> None:
        """Update the parameters by the gradients on the first devices, which had parts of a batch of `images`."""
        replicas.without_gradient(self._trained.values(), self._devices[parts:])
        self._trainer.allreduce_grads()
        if self._gradient_clip:
            for device in self._devices:
                gradients = [value.grad(device) for value in self._trained.values()]
                mx.gluon.utils.clip_global_norm(gradients, self._gradient_clip, False)
        self._trainer.set_learning_rate(learning_rate)
        self._trainer.update(images)
        self._moved = max(self._moved, 1 if self._synchronised else parts)

    def _settle(self) -> None:
        """Give all devices the same running statistics."""
        if self._moved and len(self._devices) > 1:
            replicas.average(self._statistics.values(), self._devices[: self._moved])
        self._moved = 0

    @faults.translated(faults.TRAINING_HINT)
    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """Return the most probable class of each pixel, uint8 (N, H, W), for any H and W, as GluonCV's `predict`, and
        the main head's mean cross entropy over the pixels that are not ignored, 0 if all are.
        """
        self._settle()
        found = [self._predicted(part, device) for device, part in self._parts(batch)]  # all devices compute meanwhile
        classes: UInt8 = np.concatenate([labels.asnumpy() for labels, _ in found])
        likelihood = sum(float(sums.asscalar()) for _, sums in found)
        return classes, -likelihood / max(1, _counted(batch.labels))

    def _predicted(self, batch: Batch, device: Any) -> tuple[Any, Any]:
        """The most probable class of each pixel, and the sum of the log likelihoods of the labels, on the device."""
        images, labels = self._inputs(batch, device)
        (logits,) = self._inference(images)
        scores = networks.resize_like(mx.nd, logits, images)
        return scores.argmax(axis=1).astype("uint8"), log_likelihood(scores, labels).sum()

    @faults.translated(faults.TRAINING_HINT)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/8), ceil(W/8)), any H and W."""
        self._settle()
        (logits,) = self._inference(runtime.to_device(images, self._devices[0]))
        found: Float32 = logits.asnumpy()
        return found

    @faults.translated(faults.TRAINING_HINT)
    def device_memory(self) -> int | None:
        """Return the free bytes of the first GPU, which computes `logits`; None on a CPU."""
        return runtime.device_memory(self._devices[0])

    @faults.translated(faults.TRAINING_HINT)
    def parameters(self) -> Arrays:
        """Return copies of all parameters, including the auxiliary head's, by the names in GluonCV's files."""
        self._settle()
        named = networks.parameters(self._model)
        return {name: value.data(self._devices[0]).asnumpy() for name, value in named.items()}

    @faults.translated(faults.TRAINING_HINT)
    def load(self, arrays: Arrays, origin: str) -> None:
        """Set all parameters from host arrays by structural name; `origin` names their file in errors.

        The auxiliary head is unchanged if the arrays have none of it. Raises ArtifactError when a parameter is missing,
        unknown or of another shape; nothing is changed then.
        """
        targets = networks.parameters(self._model)
        if not any(name.startswith(AUXILIARY) for name in arrays):
            targets = {name: target for name, target in targets.items() if not name.startswith(AUXILIARY)}
        networks.assign(targets, arrays, origin)
        self._moved = 0

    @faults.translated(faults.TRAINING_HINT)
    def state(self) -> Arrays:
        """Return all that the next update depends on, by name: parameters, running statistics, optimizer state."""
        optimizer = optimizer_state.read(self._trainer, networks.parameters(self._model))
        return learner_state.joined(self.parameters(), optimizer)

    @faults.translated(faults.TRAINING_HINT)
    def restore(self, arrays: Arrays, origin: str) -> None:
        """Set the state that `state` of an equal learner returned; `origin` names its file in errors.

        Raises ArtifactError when an array is missing, unknown or of another shape.
        """
        named = networks.parameters(self._model)
        parameters, optimizer = learner_state.parted(arrays)
        networks.assign(named, parameters, origin)
        self._moved = 0
        optimizer_state.write(self._trainer, named, optimizer, origin)

    def _inputs(self, batch: Batch, device: Any) -> tuple[Any, Any]:
        """A batch's normalised images and its labels, float32 (N, H, W), on the device."""
        return self._normalised(batch.images, device), runtime.to_device(batch.labels, device).astype("float32")

    def _normalised(self, images: UInt8, device: Any) -> Any:
        """uint8 (N, H, W, 3) on the host -> float32 (N, 3, H, W) on the device, normalised as for ImageNet."""
        on_device = runtime.to_device(images, device)
        return mx.nd.image.normalize(mx.nd.image.to_tensor(on_device), IMAGENET_MEAN, IMAGENET_STD)


def _criterion(specification: LearnerSpecification) -> Criterion:
    """The specified criterion: GluonCV's, unless class weights or another loss are requested."""
    weights, loss = specification.class_weights, specification.loss
    if not weights and loss == "cross_entropy":
        return MixedCrossEntropy(specification.aux_weight)
    return BalancedLoss(loss, weights, specification.num_classes, specification.aux_weight)


def _kvstore(kind: str) -> str:
    """The type of the store that adds up the gradients of several devices: the given one if MXNet has it on one
    machine, else `device`, with a warning.
    """
    if kind in ("device", "local") or (kind == "nccl" and mx.runtime.Features().is_enabled("NCCL")):
        return kind
    logger.warning(
        "The hyperparameter '_kvstore' is %s, which MXNet does not have here: 'device' is used.",
        ascii(kind[:100]),
    )
    return "device"


def _counted(labels: UInt8) -> int:
    """The number of pixels that are not ignored."""
    return int((labels != IGNORED).sum())
