"""What the rooms above ask of an engine: a device, on it a learner to train, or a backend to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

from semseg.artifact.model_dir import ModelDescription
from semseg.networks.definitions import Backbone, Network
from semseg.types import Arrays, Batch, Float32, UInt8

AUTO = "auto"
PRECISIONS = (AUTO, "f32", "bf16", "int8")
"""What a backend may compute in; `auto` is the fastest that is as good."""


class Backend(Protocol):
    """A trained network on a device, without normalisation before it and upsampling after it."""

    @property
    def stride(self) -> int:
        """Pixels of the image for each place of the logits, along either side."""
        ...

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of the device's memory that a pixel of the image takes while the network computes."""
        ...

    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, C, ceil(H/stride), ceil(W/stride)), any H and W from 1."""
        ...

    def device_memory(self) -> int | None:
        """The bytes that are free on a device with memory of its own; None where it computes in the host's."""
        ...


class Learner(Backend, Protocol):
    """A network with its criterion and optimizer on its devices; as a backend it predicts with what it has learned."""

    def train_step(self, batch: Batch, learning_rate: float, seed: int) -> SupportsFloat:
        """One update of the parameters; `seed` fixes the dropout on a CPU.

        What is returned gives, as a float, the criterion's value, the mean over the images; that may have to wait for
        the device, while this returns as soon as the device can be given the next update.
        """
        ...

    def evaluate(self, batch: Batch) -> tuple[UInt8, float]:
        """For images of any size, the class of each pixel, uint8 (N, H, W), and the mean cross entropy of those pixels
        that count, of the main head alone."""
        ...

    def load(self, arrays: Arrays, origin: str) -> None:
        """Takes over all parameters by structural name; `origin` names their file in errors."""
        ...

    def parameters(self) -> Arrays:
        """All parameters by structural name, as `load` takes them."""
        ...

    def state(self) -> Arrays:
        """All that the next update depends on, by name: parameters, running statistics, the optimizer's state."""
        ...

    def restore(self, arrays: Arrays, origin: str) -> None:
        """Takes over what `state` returned; `origin` names its file in errors."""
        ...


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer, whose name is one of the table `sagemaker.optimizers`, which says what each of them reads.

    momentum and weight_decay: those of sgd and its kin; gamma1 and gamma2: the decay of the average of the squared
    gradient, and the momentum, of rmsprop. gradient_clip: the largest norm of the whole gradient, to which it is
    shortened; 0 for any.
    """

    name: str
    momentum: float = 0.9
    weight_decay: float = 0.0001
    gamma1: float = 0.9
    gamma2: float = 0.9
    gradient_clip: float = 0.0


@dataclass(frozen=True)
class LearnerSpecification:
    """What a learner is to be.

    loss: `cross_entropy`, `focal` or `dice+ce`; class_weights: what a pixel of each class counts for, None for 1 each.
    aux_loss: whether the auxiliary head is trained; aux_weight: its weight in the value of the criterion.
    """

    network: Network
    backbone: Backbone
    num_classes: int
    optimizer: OptimizerSettings
    loss: str = "cross_entropy"
    class_weights: tuple[float, ...] | None = None
    aux_loss: bool = True
    aux_weight: float = 0.5


@dataclass(frozen=True)
class Device:
    """Where an engine computes. handle: what the engine itself calls it; gpus: how many GPUs it has found there."""

    handle: Any
    gpus: int = 0


@dataclass(frozen=True)
class BackendOptions:
    """How a backend is to compute.

    precision: one of PRECISIONS; cores: for its threads; cache_dir: a folder of this user's own for what is compiled,
    None for none.
    """

    precision: str = AUTO
    cores: int = 1
    cache_dir: Path | None = None


class Engine(Protocol):
    """A library that computes networks. What it is asked for fails with errors of this project's tree."""

    @property
    def name(self) -> str:
        """The word for it: in SEMSEG_BACKEND, and among the costs of a network."""
        ...

    @property
    def title(self) -> str:
        """Its name for people."""
        ...

    def is_for_gpus(self) -> bool:
        """Whether what is installed of it can compute on a GPU at all."""
        ...

    def find_device(self, required: bool) -> Device:
        """The first GPU, else the CPU.

        Raises DeviceError, with the cause and the way out, when there is a GPU that the engine cannot use, and when
        there is none although one is `required`.
        """
        ...

    def cpu(self) -> Device:
        """The CPU, without a look for GPUs. Raises DeviceError where not even that is of use."""
        ...

    def learner(self, specification: LearnerSpecification, arrays: Arrays, origin: str, device: Device, /) -> Learner:
        """A learner that begins with these parameters, by structural name; `origin` names their file in errors.

        Raises UserError when the engine does not train the network, ArtifactError when the parameters do not fit,
        DeviceMemoryError when the device's memory is too small.
        """
        ...

    def backend(self, model: ModelDescription, device: Device, options: BackendOptions, /) -> Backend:
        """The network of a model directory.

        Raises UserError when the engine does not run the network or does not compute in the precision, ArtifactError
        when the model is damaged or has no file of the precision, DeviceMemoryError when the memory is too small.
        """
        ...
