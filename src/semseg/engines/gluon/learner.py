"""Trains a network with MXNet on one device, one batch at a time."""

from __future__ import annotations

from typing import Any, SupportsFloat

from semseg.engines import learner_state
from semseg.engines.gluon import faults, networks, optimizer_state, runtime
from semseg.engines.gluon.losses import BalancedLoss, Criterion, MixedCrossEntropy, log_likelihood
from semseg.engines.gluon.optimizers import mxnet_arguments
from semseg.engines.protocols import LearnerSpecification
from semseg.networks.definitions import AUXILIARY
from semseg.types import IGNORED, IMAGENET_MEAN, IMAGENET_STD, Arrays, Batch, Float32, UInt8

mx = runtime.load()


class GluonLearner:
    """Trains a GluonCV network, by default with GluonCV's own criterion.

    The criterion's value is CE(out) + aux_weight * CE(auxiliary out), each the mean over all pixels of an image, in
    which ignored pixels count as 0. Its gradient is SoftmaxOutput's: the mean over the valid pixels of the batch, both
    heads at weight 1. Without `aux_loss` the auxiliary head is not used, and its parameters do not change.
    """

    def __init__(self, specification: LearnerSpecification, device: Any, model: Any = None) -> None:
        """device: an MXNet context; model: a GluonCV network on it, None to build the specified one.

        Raises UserError for a network that GluonCV does not have.
        """
        network, optimizer = specification.network, specification.optimizer
        self._model = model or networks.build(network, specification.backbone, specification.num_classes, device)
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["mxnet"]
        self.precision = "f32"
        self._device = device
        self._training = networks.LowResolutionLogits(self._model, aux=specification.aux_loss, tuned=runtime.tunes())
        self._inference = networks.LowResolutionLogits(self._model)
        self._training.hybridize(static_alloc=True, static_shape=True)  # all batches have the shape of the crop
        self._inference.hybridize()
        self._criterion = _criterion(specification)
        self._gradient_clip = optimizer.gradient_clip
        self._trainer = mx.gluon.Trainer(
            self._training.collect_params(), optimizer.name, mxnet_arguments(optimizer), kvstore=None
        )

    @faults.translated(faults.TRAINING_HINT)
    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """Make one update, and return the criterion's value before it, the mean over the images.

        seed: fixes MXNet's random numbers, so the dropout on a CPU; on a GPU, cuDNN's dropout has a seed of its own.
        On a GPU this returns at once, and the value waits for the device. The heads learn ten times as fast, as GluonCV
        sets them. Raises, as all methods do, DeviceMemoryError when the GPU's memory is too small.
        """
        mx.random.seed(seed)
        images = self._normalised(batch.images)
        labels = runtime.to_device(batch.labels, self._device).astype("float32")
        with mx.autograd.record():
            outputs = [networks.resize_like(mx.nd, logits, images) for logits in self._training(images)]
            objective = self._criterion(outputs, labels)
        mx.autograd.backward(objective.heads)
        self._clip_gradient()
        self._trainer.set_learning_rate(learning_rate)
        self._trainer.step(len(batch))
        if self._device.device_type == "cpu":  # signals are handled between calls, so only one long step may run
            mx.nd.waitall()
            return float(objective.value)
        return objective.value

    def _clip_gradient(self) -> None:
        if self._gradient_clip:
            trained = [value for value in self._training.collect_params().values() if value.grad_req != "null"]
            mx.gluon.utils.clip_global_norm([value.grad() for value in trained], self._gradient_clip, False)

    @faults.translated(faults.TRAINING_HINT)
    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """Return the most probable class of each pixel, uint8 (N, H, W), for any H and W, as GluonCV's `predict`, and
        the main head's mean cross entropy over the pixels that are not ignored, 0 if all are.
        """
        images = self._normalised(batch.images)
        labels = runtime.to_device(batch.labels, self._device).astype("float32")
        (logits,) = self._inference(images)
        scores = networks.resize_like(mx.nd, logits, images)
        classes: UInt8 = scores.argmax(axis=1).astype("uint8").asnumpy()
        counted = max(1, int((batch.labels != IGNORED).sum()))
        return classes, -float(log_likelihood(scores, labels).sum().asscalar()) / counted

    @faults.translated(faults.TRAINING_HINT)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/8), ceil(W/8)), any H and W."""
        (logits,) = self._inference(runtime.to_device(images, self._device))
        found: Float32 = logits.asnumpy()
        return found

    @faults.translated(faults.TRAINING_HINT)
    def device_memory(self) -> int | None:
        """Return the free bytes of the GPU; None on a CPU."""
        return runtime.device_memory(self._device)

    @faults.translated(faults.TRAINING_HINT)
    def parameters(self) -> Arrays:
        """Return copies of all parameters, including the auxiliary head's, by the names in GluonCV's files."""
        return {name: value.data().asnumpy() for name, value in networks.parameters(self._model).items()}

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
        optimizer_state.write(self._trainer, named, optimizer, origin)

    def _normalised(self, images: UInt8) -> Any:
        """uint8 (N, H, W, 3) on the host -> float32 (N, 3, H, W) on the device, normalised as for ImageNet."""
        on_device = runtime.to_device(images, self._device)
        return mx.nd.image.normalize(mx.nd.image.to_tensor(on_device), IMAGENET_MEAN, IMAGENET_STD)


def _criterion(specification: LearnerSpecification) -> Criterion:
    """The specified criterion: GluonCV's, unless class weights or another loss are requested."""
    weights, loss = specification.class_weights, specification.loss
    if not weights and loss == "cross_entropy":
        return MixedCrossEntropy(specification.aux_weight)
    return BalancedLoss(loss, weights, specification.num_classes, specification.aux_weight)
