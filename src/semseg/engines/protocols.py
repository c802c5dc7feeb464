"""The interface of engines: each finds a device, and on it makes a learner to train or a backend to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

from semseg.artifact.model_dir import ModelDescription
from semseg.engines.group import ALONE, Group, Membership
from semseg.networks.definitions import Backbone, Network
from semseg.types import Arrays, Batch, Float32, UInt8

AUTO = "auto"
PRECISIONS = (AUTO, "f32", "bf16", "int8")
"""The number formats that a backend may compute in; `auto` is the fastest of those without loss of accuracy."""


class Backend(Protocol):
    """A trained network on a device; it neither normalises its input nor upsamples its output."""

    @property
    def stride(self) -> int:
        """The pixels along each side of an image that share one place of the logits."""
        ...

    @property
    def bytes_per_pixel(self) -> int:
        """The bytes of the device's memory that each pixel of an image takes while the network computes."""
        ...

    @property
    def precision(self) -> str:
        """The number format that its convolutions compute in, such as f32 or int8."""
        ...

    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, C, ceil(H/stride), ceil(W/stride)), any H and W from 1."""
        ...

    def device_memory(self) -> int | None:
        """The free bytes of a device with its own memory; None if it computes in the host's memory."""
        ...


class Learner(Backend, Protocol):
    """A network in training, with its criterion and optimizer; as a backend it predicts with its current parameters."""

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """Update the parameters once, and return the criterion's value, the mean over the images.

        In a group this is collective. The batch is this rank's part of the group's batch, and may be empty: images
        uint8 (0, H, W, 3). Update and value are those of one process with the group's batch, the same on all ranks.
        Converting it to a float may wait for the device; this method returns as soon as the device can take the next
        update. seed: fixes the dropout, but not MXNet's on a GPU.
        """
        ...

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """Return the class of each pixel, uint8 (N, H, W), for any H and W, and the main head's mean cross entropy over
        the pixels that are not ignored."""
        ...

    def load(self, arrays: Arrays, origin: str) -> None:
        """Set all parameters, by structural name; `origin` names their file in errors."""
        ...

    def parameters(self) -> Arrays:
        """Return all parameters by structural name, as `load` takes them."""
        ...

    def state(self) -> Arrays:
        """Return all that the next update depends on, by name: parameters, running statistics, optimizer state."""
        ...

    def restore(self, arrays: Arrays, origin: str) -> None:
        """Set the state that `state` returned; `origin` names its file in errors."""
        ...


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer and its settings; the table in `sagemaker.optimizers` has the names, and what each of them reads.

    gamma1 and gamma2: rmsprop's decay of the average of the squared gradient, and its momentum. gradient_clip: the
    largest norm of the whole gradient, to which a longer one is scaled down; 0 for no limit.
    """

    name: str
    momentum: float = 0.9
    weight_decay: float = 0.0001
    gamma1: float = 0.9
    gamma2: float = 0.9
    gradient_clip: float = 0.0


@dataclass(frozen=True)
class LearnerSpecification:
    """The network, the optimizer and the criterion of a learner.

    loss: `cross_entropy`, `focal` or `dice+ce`; class_weights: the weight of a pixel of each class, None for 1 each.
    aux_loss: whether the auxiliary head is trained; aux_weight: its weight in the criterion's value.
    syncbn: whether BatchNorm uses the statistics of the whole batch, rather than of each device's part. kvstore: what
    adds up the gradients of several devices in one process: MXNet's `device`, `local` or `nccl`.
    precision: what the convolutions compute in, one of the engine's `precisions`; tf32: whether those of float32 may
    round to TF32 where the device has it.
    """

    network: Network
    backbone: Backbone
    num_classes: int
    optimizer: OptimizerSettings
    loss: str = "cross_entropy"
    class_weights: tuple[float, ...] | None = None
    aux_loss: bool = True
    aux_weight: float = 0.5
    precision: str = "float32"
    tf32: bool = False
    syncbn: bool = False
    kvstore: str = "device"


@dataclass(frozen=True)
class Device:
    """What an engine computes on. handle: the engine's own object for it; gpus: the number of GPUs, 0 for the CPU."""

    handle: Any
    gpus: int = 0


@dataclass(frozen=True)
class BackendOptions:
    """Options of a backend.

    precision: one of PRECISIONS; cores: the number of its threads; cache_dir: a folder of this user's own for compiled
    models, None for no cache.
    """

    precision: str = AUTO
    cores: int = 1
    cache_dir: Path | None = None


class Engine(Protocol):
    """A library that computes networks. Its methods raise this project's errors."""

    @property
    def name(self) -> str:
        """Its name in SEMSEG_BACKEND and in Network.bytes_per_pixel."""
        ...

    @property
    def title(self) -> str:
        """Its name in messages."""
        ...

    @property
    def installation(self) -> str:
        """How to install it, as part of a sentence that is an instruction."""
        ...

    @property
    def trains_in_groups(self) -> bool:
        """Whether it trains on several hosts, and on each with a process for each GPU; see `join`."""
        ...

    def is_installed(self) -> bool:
        """Whether its library is installed; it is not loaded."""
        ...

    def is_for_gpus(self) -> bool:
        """Whether the installed variant can compute on a GPU at all."""
        ...

    def find_device(self, required: bool) -> Device:
        """The GPUs, or else the CPU.

        Raises DeviceError, with the cause and a way out, when there is a GPU that the engine cannot use, and when there
        is none although one is `required`.
        """
        ...

    def cpu(self) -> Device:
        """The CPU, without looking for GPUs. Raises DeviceError if the engine cannot even use that."""
        ...

    def precisions(self, device: Device, /) -> tuple[str, ...]:
        """What training can compute in on a device: `float32`, and maybe `bfloat16` and `float16`.

        The first is that of `auto`: bfloat16 where the device computes faster in it than in float32, else float32.
        Parameters, running statistics, interpolation and the criterion are in float32 in any case.
        """
        ...

    def join(self, membership: Membership, device: Device, /) -> Group:
        """Join a group of processes, each with a device of its own, once all have come.

        Raises UserError when the engine trains in one process only, GroupError when the others do not come in time.
        """
        ...

    def learner(
        self, specification: LearnerSpecification, arrays: Arrays, origin: str, device: Device, group: Group = ALONE, /
    ) -> Learner:
        """A learner that starts with these parameters, by structural name; `origin` names their file in errors.

        In a group only `train_step` is collective. All ranks must start with the same parameters and `restore` the same
        state; parameters, running statistics and state then stay the same on all ranks between updates.
        The specification's precision must be one of `precisions`.
        Raises UserError when the engine does not train the network, ArtifactError when the parameters do not fit,
        DeviceMemoryError when the device's memory is too small.
        """
        ...

    def backend(self, model: ModelDescription, device: Device, options: BackendOptions, /) -> Backend:
        """The network of a model directory.

        Raises UserError when the engine does not support the network or the precision, ArtifactError when the model is
        damaged or has no file for the precision, DeviceMemoryError when the memory is too small.
        """
        ...
