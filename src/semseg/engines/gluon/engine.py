"""MXNet as an engine: trains GluonCV's networks on the GPUs or the CPU, and serves them on the first GPU or the CPU.

The handle of its devices is a tuple of MXNet contexts.

MXNet is loaded when it is first needed: that takes two seconds, and starts threads.
"""

from __future__ import annotations

import importlib.util
import logging

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.params import read_params
from semseg.engines.gluon import cuda, faults, runtime
from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import AUTO, Backend, BackendOptions, Device, Learner, LearnerSpecification
from semseg.errors import UserError
from semseg.types import Arrays

logger = logging.getLogger(__name__)


class MxnetEngine:
    """The engine that computes with MXNet; see `protocols.Engine`."""

    name = "mxnet"
    title = "MXNet"
    installation = "pip install 'semseg-container[cpu]', or [gpu] for NVIDIA's GPUs, on Python 3.11"
    trains_in_groups = False

    def is_installed(self) -> bool:
        """Return whether either variant is installed."""
        return importlib.util.find_spec("mxnet") is not None

    def is_for_gpus(self) -> bool:
        """Return whether the gpu variant is installed."""
        return cuda.is_installed()

    def find_device(self, required: bool) -> Device:
        """Return the GPUs, or else the CPU; raises DeviceError, see `runtime.devices`."""
        return Device(*runtime.devices(required))

    def cpu(self) -> Device:
        """Return the CPU. Raises DeviceError when MXNet cannot be loaded."""
        return Device((runtime.cpu(),))

    def precisions(self, _: Device) -> tuple[str, ...]:
        """Return float32 alone."""
        return ("float32",)

    def join(self, _: Membership, __: Device) -> Group:
        """Raise UserError: MXNet trains in one process."""
        raise UserError(
            "MXNet trains in one process on one machine, not in a group of several.",
            "Set _engine=torch, in the torch image: PyTorch trains on several hosts.",
        )

    @faults.translated(faults.TRAINING_HINT)
    def learner(
        self, specification: LearnerSpecification, arrays: Arrays, origin: str, device: Device, _: Group = ALONE
    ) -> Learner:
        """Return a learner that starts with these parameters, on as many GPUs as the device says it has.

        See `protocols.Engine`.
        """
        if specification.tf32:
            logger.warning("The hyperparameter '_tf32' has no effect: MXNet computes in float32 alone.")
        from semseg.engines.gluon.learner import GluonLearner

        learner = GluonLearner(specification, device.handle[: max(1, device.gpus)])
        learner.load(arrays, origin)
        return learner

    def backend(self, model: ModelDescription, device: Device, options: BackendOptions) -> Backend:
        """Return the network of a model directory, which computes in f32; see `protocols.Engine`."""
        if options.precision not in (AUTO, "f32"):
            raise UserError(
                f"SEMSEG_PRECISION is {options.precision}, but MXNet computes only in f32.",
                "Set SEMSEG_BACKEND to openvino or torch too, or leave SEMSEG_PRECISION out.",
            )
        from semseg.engines.gluon.backend import load_backend

        logger.info("Loading weights from %s", model.params)
        return load_backend(
            model.network,
            model.backbone,
            model.num_classes,
            read_params(model.params),
            str(model.params),
            device.handle[0],
        )
