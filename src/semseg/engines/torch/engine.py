"""PyTorch as an engine: trains and serves every network of the definitions, on the first GPU or on the CPU.

PyTorch is loaded when it is first needed: that takes seconds.
"""

from __future__ import annotations

import importlib.util
import logging
import os

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.params import read_params
from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import AUTO, Backend, BackendOptions, Device, Learner, LearnerSpecification
from semseg.engines.torch import faults, runtime
from semseg.errors import UserError
from semseg.machine import keep_memory_flat
from semseg.networks.definitions import Network
from semseg.types import Arrays

logger = logging.getLogger(__name__)

_ACTIVATION = 1 << 29
"""More bytes than an activation has. PyTorch on a CPU has no memory pool: an activation that malloc returns to the
system is a new mapping in each step, and clearing its pages takes a fifth of a step's CPU time [measured]."""


class TorchEngine:
    """The engine that computes with PyTorch; see `protocols.Engine`."""

    name = "torch"
    title = "PyTorch"
    installation = "pip install 'semseg-container[torch]', or use the torch image"
    trains_in_groups = True

    def is_installed(self) -> bool:
        """Return whether PyTorch is installed."""
        return importlib.util.find_spec("torch") is not None

    def is_for_gpus(self) -> bool:
        """Return whether PyTorch's CUDA build is installed."""
        return runtime.is_for_gpus()

    def find_device(self, required: bool) -> Device:
        """Return the first GPU, or else the CPU; raises DeviceError, see `runtime.devices`."""
        return Device(*runtime.devices(required))

    def cpu(self) -> Device:
        """Return the CPU. Raises DeviceError when PyTorch cannot be loaded."""
        return Device(runtime.cpu())

    def precisions(self, device: Device) -> tuple[str, ...]:
        """Return the precisions of training; see `protocols.Engine`."""
        return runtime.precisions(device.handle)

    def join(self, membership: Membership, device: Device) -> Group:
        """Join a group of processes; see `protocols.Engine`."""
        runtime.load()
        from semseg.engines.torch.group import TorchGroup

        return TorchGroup(membership, device.handle)

    @faults.translated(faults.TRAINING_HINT)
    def learner(
        self, specification: LearnerSpecification, arrays: Arrays, origin: str, device: Device, group: Group = ALONE
    ) -> Learner:
        """Return a learner that starts with these parameters; see `protocols.Engine`."""
        self._require(specification.network)
        runtime.allow_tf32(specification.tf32)
        if specification.tf32 and not runtime.is_ampere(device.handle):
            logger.warning("The hyperparameter '_tf32' has no effect: only GPUs from A100 and A10G on have TF32.")
        elif specification.tf32 and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
            logger.warning(
                "The hyperparameter '_tf32' has no effect: NVIDIA_TF32_OVERRIDE is 0. MXNet sets it where _engine is "
                "auto: set that to torch."
            )
        if device.handle.type == "cpu":
            keep_memory_flat(_ACTIVATION, kept=_ACTIVATION)
        from semseg.engines.torch.learner import TorchLearner

        learner = TorchLearner(specification, device.handle, specification.precision, group)
        learner.load(arrays, origin)
        return learner

    def backend(self, model: ModelDescription, device: Device, options: BackendOptions) -> Backend:
        """Return the network of a model directory; see `protocols.Engine`.

        `auto` is bf16 on GPUs that have it, and f32 on others and on CPUs.
        """
        self._require(model.network)
        precision = options.precision
        if precision == AUTO:
            precision = "bf16" if runtime.is_ampere(device.handle) else "f32"
        _require_precision(precision, runtime.precisions(device.handle))
        from semseg.engines.torch.backend import load_backend

        if device.gpus:
            logger.info("PyTorch computes in %s on the GPU.", precision)
        else:
            runtime.load().set_num_threads(options.cores)
            logger.info("PyTorch computes in %s on %d cores.", precision, options.cores)
        logger.info("Loading weights from %s", model.params)
        return load_backend(
            model.network,
            model.backbone,
            model.num_classes,
            read_params(model.params),
            str(model.params),
            device.handle,
            bf16=precision == "bf16",
        )

    def _require(self, network: Network) -> None:
        if self.name not in network.bytes_per_pixel:
            raise UserError(f"PyTorch does not compute {network.title}.", "Use another engine.")


def _require_precision(precision: str, precisions: tuple[str, ...]) -> None:
    """Raise UserError unless this precision of serving is f32, or one that the device computes in."""
    if precision == "int8":
        raise UserError(
            "SEMSEG_PRECISION is int8, but PyTorch computes only in f32 and bf16.",
            "Set SEMSEG_BACKEND to openvino too, or SEMSEG_PRECISION to auto, f32 or bf16.",
        )
    if precision == "bf16" and "bfloat16" not in precisions:
        raise UserError(
            "SEMSEG_PRECISION is bf16, which this device does not compute in: it needs a GPU of compute capability 8.0 "
            "or a CPU with AVX512-BF16 or AMX.",
            "Set SEMSEG_PRECISION to auto or f32, or serve on another machine.",
        )
