"""Trains a network with PyTorch on one device, one batch at a time, or on the devices of a group of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from semseg.engines import learner_state
from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import LearnerSpecification
from semseg.engines.torch import faults, runtime
from semseg.engines.torch.data_parallel import DataParallel, OneDevice
from semseg.engines.torch.interpolation import resize
from semseg.engines.torch.loss_scale import LossScale
from semseg.engines.torch.losses import criterion_of, cross_entropy
from semseg.engines.torch.network import TorchNetwork, arrays_of, assign
from semseg.engines.torch.transfer import Late, to_device
from semseg.engines.torch.updater import Updater
from semseg.networks.definitions import AUXILIARY
from semseg.types import IGNORED, IMAGENET_MEAN, IMAGENET_STD, Arrays, Batch, Float32, UInt8

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchLearner:
    """Trains a network, by default with GluonCV's own criterion; see `losses.MixedCrossEntropy`.

    In half precision the convolutions compute in it. Parameters, running statistics, interpolation, criterion and
    updates stay in float32. Without `aux_loss` the auxiliary head is not used, and its parameters do not change.

    In a group the gradient of the whole batch is the same on all ranks, and so are its norm, whether it overflows
    float16, and the update.
    """

    def __init__(self, specification: LearnerSpecification, device: Any, precision: str, group: Group = ALONE) -> None:
        """device: a torch.device; precision: float32, bfloat16 or float16; group: ALONE, or what `TorchEngine.join`
        returned. All parameters are 0 until `load`.
        """
        network = specification.network
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["torch"]
        self.precision = precision
        self._device = device
        self._dtype = _DTYPES[precision]
        model = TorchNetwork(network, specification.backbone, specification.num_classes, auxiliary=True)
        self._network = model.to(device)
        self._aux_loss = specification.aux_loss
        for name, tensor in self._network.tensors().items():
            if name.startswith(AUXILIARY) and tensor.requires_grad:
                tensor.requires_grad_(self._aux_loss)
        self._ranks = self._placed(group, specification.syncbn)
        self._agreed = False
        self._criterion = criterion_of(specification)
        self._updater = Updater(specification.optimizer, self._network.tensors(), self._network.table)
        self._loss_scale = LossScale() if precision == "float16" else None
        self._mean, self._deviation = (
            torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)
        )

    @faults.translated(faults.TRAINING_HINT)
    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """Make one update, and return the criterion's value before it, the mean over the images.

        seed: fixes PyTorch's random numbers, so the dropout. On a GPU this returns at once, and the value waits for the
        device; but in float16 it waits itself, because an update whose gradient overflows is skipped. The heads learn
        ten times as fast, as GluonCV sets them. Raises, as all methods do, DeviceMemoryError when the GPU's memory is
        too small.
        """
        torch.manual_seed(seed + self._ranks.rank)
        images, labels = self._normalised(batch.images), to_device(batch.labels, self._device).long()
        self._require_agreement()
        self._network.train()
        with _cudnn_tuned():
            with self._autocast():
                outputs = self._ranks.module(images, auxiliary=self._aux_loss)
            own = self._criterion.sums([resize(logits, *images.shape[2:]) for logits in outputs], labels)
            sums, count = self._ranks.total(own, len(batch))
            objective = self._criterion.objective(sums)
            value = objective.value if self._device.type == "cpu" else Late(objective.value)
            self._update(objective.total / count, learning_rate, count)
            self._ranks.share_statistics(len(batch), count)
        return float(value) if self._device.type == "cpu" else value

    def _update(self, loss: Tensor, learning_rate: float, images: int | Tensor) -> None:
        scale = self._loss_scale
        (scale.scaled(loss) if scale else loss).backward()
        if not scale or scale.restore_size(self._updater.gradients()):
            self._updater.update(learning_rate, images)
        self._updater.drop_gradients()

    @faults.translated(faults.TRAINING_HINT)
    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """Return the most probable class of each pixel, uint8 (N, H, W), for any H and W, and the main head's mean
        cross entropy over the pixels that are not ignored, 0 if all are.
        """
        with torch.inference_mode():
            images, labels = self._normalised(batch.images), to_device(batch.labels, self._device).long()
            scores = resize(self._logits(images), *images.shape[2:])
            classes: UInt8 = scores.argmax(dim=1).to("cpu", torch.uint8).numpy()
            counted = max(1, int((batch.labels != IGNORED).sum()))
            return classes, float(cross_entropy(scores, labels).sum()) / counted

    @faults.translated(faults.TRAINING_HINT)
    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/8), ceil(W/8)), any H and W."""
        with torch.inference_mode():
            logits = self._logits(to_device(images, self._device))
            found: Float32 = logits.to("cpu", torch.float32, memory_format=torch.contiguous_format).numpy()
            return found

    @faults.translated(faults.TRAINING_HINT)
    def device_memory(self) -> int | None:
        """Return the free bytes of the GPU; None on a CPU."""
        return runtime.device_memory(self._device)

    @faults.translated(faults.TRAINING_HINT)
    def parameters(self) -> Arrays:
        """Return copies of all parameters, including the auxiliary head's, by the names in GluonCV's files."""
        return arrays_of(self._network.tensors())

    @faults.translated(faults.TRAINING_HINT)
    def load(self, arrays: Arrays, origin: str) -> None:
        """Set all parameters from host arrays by structural name; `origin` names their file in errors.

        The auxiliary head is unchanged if the arrays have none of it. Raises ArtifactError when a parameter is missing,
        unknown or of another shape; nothing is changed then.
        """
        targets = self._network.tensors()
        if not any(name.startswith(AUXILIARY) for name in arrays):
            targets = {name: target for name, target in targets.items() if not name.startswith(AUXILIARY)}
        assign(targets, arrays, origin)
        self._agreed = False

    @faults.translated(faults.TRAINING_HINT)
    def state(self) -> Arrays:
        """Return all that the next update depends on, by name: parameters, running statistics, optimizer state."""
        own = self._loss_scale.read() if self._loss_scale else {}
        return learner_state.joined(self.parameters(), self._updater.read()) | own

    @faults.translated(faults.TRAINING_HINT)
    def restore(self, arrays: Arrays, origin: str) -> None:
        """Set the state that `state` of an equal learner returned, or MXNet's; `origin` names its file in errors.

        Raises ArtifactError when an array is missing, unknown or of another shape.
        """
        parameters, optimizer = learner_state.parted(arrays)
        assign(self._network.tensors(), parameters, origin)
        self._updater.write(optimizer, origin)
        if self._loss_scale:
            self._loss_scale.write(arrays, origin)
        self._agreed = False

    def _placed(self, group: Group, syncbn: bool) -> OneDevice | DataParallel:
        """The network on one device, or in a group with the running statistics that training changes."""
        if group is ALONE:
            return OneDevice(self._network)
        named = self._network.tensors().items()
        trained = [x for name, x in named if "running" in name and (self._aux_loss or not name.startswith(AUXILIARY))]
        return DataParallel(self._network, group, syncbn, trained)

    def _require_agreement(self) -> None:
        """Before the first update from new values, raise GroupError unless all ranks have the same."""
        if not self._agreed:
            self._ranks.require_equal(self.state)
        self._agreed = True

    def _logits(self, images: Tensor) -> Tensor:
        """The main head's logits, in inference."""
        self._network.eval()
        with self._autocast():
            (logits,) = self._network(images)
        return logits

    def _autocast(self) -> Any:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _normalised(self, images: UInt8) -> Tensor:
        """uint8 (N, H, W, 3) on the host -> float32 (N, 3, H, W) on the device, normalised as for ImageNet.

        The memory keeps its order, which is the network's memory format.
        """
        on_device = to_device(images, self._device).permute(0, 3, 1, 2).to(torch.float32)
        return on_device.div_(255).sub_(self._mean).div_(self._deviation)


@contextmanager
def _cudnn_tuned() -> Iterator[None]:
    """Let cuDNN time its algorithms and take the fastest, which pays for the one shape of training's crops."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
