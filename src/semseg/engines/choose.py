"""Chooses the engine and its device, by what is requested, what is installed, and what the machine has."""

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
"""The values of SEMSEG_BACKEND."""


def training_engine() -> Engine:
    """Return the engine that trains."""
    return MXNET


def training_device(engine: Engine, wanted: str, instance: str) -> Device:
    """Return the device to train on: the first GPU, or else the CPU. Logs it in the built-in algorithm's words.

    wanted: the hyperparameter `_device`; instance: the machine's type if that has a GPU, else empty. Where the type or
    device files indicate a GPU, `auto` uses the CPU only if the installed engine supports nothing else, and then a
    warning is logged.
    Raises DeviceError, with the cause and ways out, when a GPU that is wanted or expected cannot be used, and when the
    engine cannot even use the CPU.
    """
    start = time.perf_counter()
    cpu, evidence = engine.cpu(), _evidence_of_gpu(instance)  # the CPU first: if it fails, errors must not suggest it
    device = cpu if wanted == "cpu" else _expected_device(engine, wanted, evidence)
    logger.info("nvidia-smi: took %.3f seconds to run.", time.perf_counter() - start)
    logger.info("nvidia-smi identified %d GPUs.", device.gpus)
    logger.info("Number of GPUs being used: %d", min(device.gpus, 1))
    if device.gpus > 1:
        logger.warning("%d GPUs found; only the first is used: several are not supported yet.", device.gpus)
    if evidence and not device.gpus and wanted == AUTO:
        logger.warning(
            "%s, but %s's cpu variant trains on the CPU. The gpu image, or the gpu variant, trains on the GPU; "
            "_device=cpu selects the CPU without this warning.",
            evidence,
            engine.title,
        )
    return device


def _expected_device(engine: Engine, wanted: str, evidence: str) -> Device:
    try:
        return engine.find_device(required=wanted == "gpu" or (evidence != "" and engine.is_for_gpus()))
    except DeviceError as error:
        expected = evidence or ("_device is gpu" if wanted == "gpu" else "")
        raise DeviceError(
            f"{expected}. {error.message}" if expected else error.message,
            f"{error.hint} Or set _device=cpu, to train on the CPU, slowly.",
        ) from error


def serving_engine(wanted: str) -> tuple[Engine, Device]:
    """Return the engine that serves, and its device; wanted: one of SERVING.

    `auto` is MXNet on the first GPU, and OpenVINO without one. MXNet's import takes two seconds, so `auto` looks for
    GPUs only where one has a device file. A GPU that cannot be used is not an error: a warning gives the reason.
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
    """The engine's first GPU, or else the CPU; logs a warning if there is a GPU that is not used.

    None if the engine fails because of a GPU: then it may not even load.
    """
    files = gpu_files()
    try:
        device = engine.find_device(required=bool(files) and engine.is_for_gpus())
    except DeviceError as error:
        logger.warning("Serving on the CPU. %s", error)
        return None
    if files and not device.gpus:
        logger.warning(
            "Serving on the CPU: %s's cpu variant, which is installed, does not use %s.", engine.title, files[0]
        )
    return device


def _evidence_of_gpu(instance: str) -> str:
    """The reason to expect a GPU on this machine, as a sentence without its full stop; empty if there is none."""
    if instance:
        return f"The instance is {instance}"
    files = gpu_files()
    return f"The machine has the device file {files[0]}" if files else ""
