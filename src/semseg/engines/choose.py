"""Which engine computes, and where: by what is asked for, what is installed, and what the machine has."""

from __future__ import annotations

import logging
import time

from semseg.engines.gluon.engine import MxnetEngine
from semseg.engines.openvino.engine import OpenVinoEngine
from semseg.engines.protocols import AUTO, Device, Engine
from semseg.errors import DeviceError
from semseg.machine import gpu_files

logger = logging.getLogger(__name__)

MXNET, OPENVINO = MxnetEngine(), OpenVinoEngine()
SERVING = (AUTO, MXNET.name, OPENVINO.name)
"""What SEMSEG_BACKEND may be."""


def training_engine() -> Engine:
    """Return the engine that trains."""
    return MXNET


def training_device(engine: Engine, wanted: str, instance: str) -> Device:
    """Return the device to train on, the first GPU, else the CPU; logged in the built-in algorithm's words.

    wanted: the hyperparameter `_device`; instance: the type of the machine if that is one with a GPU, else empty. Where
    it or device files show a GPU, `auto` is not content with the CPU, unless the engine that is installed can compute
    on no other: then a warning is logged.
    Raises DeviceError, with the cause and the ways out, when no GPU can be used that is wanted or to be expected, and
    when the engine cannot even use the CPU.
    """
    start = time.perf_counter()
    cpu, sign = engine.cpu(), _sign_of_gpu(instance)  # first: where not even the CPU is of use, it is no way out
    device = cpu if wanted == "cpu" else _expected_device(engine, wanted, sign)
    logger.info("nvidia-smi: took %.3f seconds to run.", time.perf_counter() - start)
    logger.info("nvidia-smi identified %d GPUs.", device.gpus)
    logger.info("Number of GPUs being used: %d", min(device.gpus, 1))
    if device.gpus > 1:
        logger.warning("%d GPUs found, of which only the first is used: several are not supported yet.", device.gpus)
    if sign and not device.gpus and wanted == AUTO:
        logger.warning(
            "%s, but %s's cpu variant trains on the CPU. The gpu image, or the gpu variant, trains on the GPU; "
            "_device=cpu says that the CPU is meant.",
            sign,
            engine.title,
        )
    return device


def _expected_device(engine: Engine, wanted: str, sign: str) -> Device:
    try:
        return engine.find_device(required=wanted == "gpu" or (sign != "" and engine.is_for_gpus()))
    except DeviceError as error:
        expected = sign or ("_device is gpu" if wanted == "gpu" else "")
        raise DeviceError(
            f"{expected}. {error.message}" if expected else error.message,
            f"{error.hint} Or set _device=cpu, to train on the CPU, slowly.",
        ) from error


def serving_engine(wanted: str) -> tuple[Engine, Device]:
    """Return the engine that serves, and its device; wanted: one of SERVING.

    `auto` is MXNet on the first GPU, and OpenVINO without one. MXNet's import takes two seconds, so `auto` asks it for
    GPUs only where there is a device file of one; a GPU that cannot be used is no error: a warning tells why.
    """
    if wanted == OPENVINO.name or (wanted == AUTO and not gpu_files()):
        return OPENVINO, OPENVINO.cpu()
    device = _device_or_cpu(MXNET)
    if device and device.gpus > 1:
        logger.warning("%d GPUs found; the first is used.", device.gpus)
    if wanted == MXNET.name:
        return MXNET, device or MXNET.cpu()
    return (MXNET, device) if device and device.gpus else (OPENVINO, OPENVINO.cpu())


def _device_or_cpu(engine: Engine) -> Device | None:
    """The engine's first GPU, else the CPU; a warning where there is a GPU that is not used.

    None where the engine fails over a GPU: it may not even load then.
    """
    files = gpu_files()
    try:
        device = engine.find_device(required=bool(files) and engine.is_for_gpus())
    except DeviceError as error:
        logger.warning("The CPU serves. %s", error)
        return None
    if files and not device.gpus:
        logger.warning("The CPU serves: %s's cpu variant is installed, which does not use %s.", engine.title, files[0])
    return device


def _sign_of_gpu(instance: str) -> str:
    """What makes one expect a GPU here, as a sentence; empty for nothing."""
    if instance:
        return f"The instance is {instance}"
    files = gpu_files()
    return f"The machine has the device file {files[0]}" if files else ""
