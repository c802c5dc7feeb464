"""Chooses the engine and its device, by what is requested, what is installed, and what the machine has."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from semseg.engines.gluon.engine import MxnetEngine
from semseg.engines.openvino.engine import OpenVinoEngine
from semseg.engines.protocols import AUTO, Device, Engine
from semseg.engines.torch.engine import TorchEngine
from semseg.errors import DeviceError, HyperparameterError, UserError
from semseg.machine import gpu_files
from semseg.sagemaker.log_lines import FOR_PEOPLE

logger = logging.getLogger(__name__)

MXNET, OPENVINO, TORCH = MxnetEngine(), OpenVinoEngine(), TorchEngine()
ENGINES: tuple[Engine, ...] = (MXNET, OPENVINO, TORCH)
WITH_LEARNERS: tuple[Engine, ...] = (MXNET, TORCH)
"""The engines that train, and that use GPUs, in the order in which `auto` tries them."""

SERVING = (AUTO, *(engine.name for engine in ENGINES))
"""The values of SEMSEG_BACKEND."""

DEVICES = (AUTO, "cpu", "gpu")
"""Where a network may be computed; `auto` is the GPU if an engine can use one."""


@dataclass(frozen=True)
class Trainer:
    """The engine that trains, its device, which has the GPUs that train, and what it computes in, one of the engine's
    `precisions`.
    """

    engine: Engine
    device: Device
    precision: str

    @property
    def gpus(self) -> int:
        """The number of GPUs that train, from the first on; 0 for the CPU."""
        return self.device.gpus


def choose_trainer(
    engine: str, device: str, precision: str, instance: str, gpus: int | None = None, hosts: int = 1
) -> Trainer:
    """Return what trains a job, and log it, the GPUs in the built-in algorithm's words.

    engine, device, precision, gpus: the hyperparameters `_engine`, `_device`, `precision_dtype` and `_gpus`; instance:
    the machine's type if that has a GPU, else empty; hosts: the number of machines that train. `auto` is the first of
    WITH_LEARNERS that is installed and can use the device, and for several hosts the first that trains in groups, if
    one is installed. Where the instance or device files indicate a GPU, `auto` uses the CPU only if the installed
    engines support nothing else, and then a warning is logged.
    Raises UserError when no engine is installed, DeviceError, with the cause and ways out, when a GPU that is wanted or
    expected cannot be used, and when the engine cannot even use the CPU, HyperparameterError for a precision that the
    engine does not compute in.
    """
    start = time.perf_counter()
    evidence = _evidence_of_gpu(instance)
    candidates, only = _candidates("_engine", engine), f"_engine is {engine}"
    if engine == AUTO:
        candidates, only = _for_hosts(candidates, hosts)
    chosen, found, passed_over = _first_usable(candidates, device, evidence)
    logger.info("nvidia-smi: took %.3f seconds to run.", time.perf_counter() - start)
    logger.info("nvidia-smi identified %d GPUs.", found.gpus)
    used = _used(chosen, found, gpus)
    logger.info("Number of GPUs being used: %d", used.gpus)
    if evidence and not found.gpus and device == AUTO:
        logger.warning(
            "%s, but %s's cpu variant trains on the CPU. The gpu or the torch variant, or image, trains on the GPU; "
            "_device=cpu selects the CPU without this warning.",
            evidence,
            chosen.title,
        )
    resolved = _precision(chosen, found, precision)
    reason = passed_over or (only if len(candidates) == 1 else "it is the first choice")
    logger.info("%s trains in %s: %s.", chosen.title, resolved, reason, extra=FOR_PEOPLE)
    return Trainer(chosen, used, resolved)


def rank_trainer(engine: str, precision: str, gpu: bool) -> Trainer:
    """Return what trains one rank of a job, as `choose_trainer` has chosen it: an engine and a precision by name.

    gpu: whether this process's first GPU trains, else the CPU. Raises DeviceError.
    """
    chosen = next(one for one in WITH_LEARNERS if one.name == engine)
    return Trainer(chosen, chosen.find_device(required=True) if gpu else chosen.cpu(), precision)


def _used(engine: Engine, found: Device, gpus: int | None) -> Device:
    """The device with the wanted number of GPUs, or as it is. Raises DeviceError if there are fewer."""
    if not gpus:
        return found
    if gpus > found.gpus:
        raise DeviceError(
            f"_gpus is {gpus}, but {engine.title} can use {found.gpus} on this machine.",
            f"Set it to {found.gpus}, or leave it out."
            if found.gpus
            else "Leave it out, to train on the CPU; GPUs need the gpu or the torch variant, or image.",
        )
    return replace(found, gpus=gpus)


def _for_hosts(installed: list[Engine], hosts: int) -> tuple[list[Engine], str]:
    """The engines that train on so many hosts, or all if none does, and the reason for one if it is the only one."""
    in_groups = [engine for engine in installed if engine.trains_in_groups]
    if hosts > 1 and len(installed) > len(in_groups) > 0:
        return in_groups, f"the job has {hosts} hosts"
    return installed, "no other engine that trains is installed"


def _candidates(setting: str, wanted: str) -> list[Engine]:
    """The engine of this name, or for `auto` all of WITH_LEARNERS that are installed; setting: what names it.

    Raises UserError if there is none.
    """
    candidates = [engine for engine in ENGINES if engine.name == wanted] or list(WITH_LEARNERS)
    if installed := [engine for engine in candidates if engine.is_installed()]:
        return installed
    titles = [engine.title for engine in candidates]
    missing = f"{titles[0]} is not" if len(titles) == 1 else f"neither {' nor '.join(titles)} is"
    raise UserError(
        f"{setting} is {wanted}, but {missing} installed.",
        f"Install it: {'; or '.join(engine.installation for engine in candidates)}.",
    )


def _first_usable(candidates: list[Engine], wanted: str, evidence: str) -> tuple[Engine, Device, str]:
    """The first engine that can use the device, and why those before it cannot.

    If one that is for GPUs cannot use the expected GPU, and no other can, its error is raised; else, if none is for
    GPUs, the first uses the CPU.
    """
    on_cpu: list[tuple[Engine, Device]] = []
    refusals: list[tuple[Engine, DeviceError]] = []
    for engine in candidates:
        try:
            device = _device(engine, wanted, evidence)
        except DeviceError as error:
            refusals.append((engine, error))
            continue
        if device.gpus or wanted == "cpu" or not evidence:
            return engine, device, _passed_over(on_cpu, refusals)
        on_cpu.append((engine, device))
    if refusals:
        raise next((error for engine, error in refusals if engine.is_for_gpus()), refusals[0][1])
    return *on_cpu[0], ""


def _passed_over(on_cpu: list[tuple[Engine, Device]], refusals: list[tuple[Engine, DeviceError]]) -> str:
    reasons = [f"{engine.title}'s cpu variant does not use the GPU" for engine, _ in on_cpu]
    reasons += [f"{engine.title} cannot ({error.message.rstrip('.')})" for engine, error in refusals]
    return ", ".join(reasons)


def _device(engine: Engine, wanted: str, evidence: str) -> Device:
    cpu = engine.cpu()  # first: if it fails, errors must not suggest it
    if wanted == "cpu":
        return cpu
    try:
        return engine.find_device(required=wanted == "gpu" or (evidence != "" and engine.is_for_gpus()))
    except DeviceError as error:
        expected = evidence or ("_device is gpu" if wanted == "gpu" else "")
        raise DeviceError(
            f"{expected}. {error.message}" if expected else error.message,
            f"{error.hint} Or set _device=cpu, to train on the CPU, slowly.",
        ) from error


def _precision(engine: Engine, device: Device, wanted: str) -> str:
    """What training computes in; for `auto` the first that the engine offers."""
    offered = engine.precisions(device)
    precision = offered[0] if wanted == AUTO else wanted
    if precision in offered:
        return precision
    raise HyperparameterError(
        f"precision_dtype is {wanted}, but {engine.title} computes on this device only in {' or '.join(offered)}.",
        "Set it to one of these, or to auto. _engine=torch computes in bfloat16 on GPUs from A100 and A10G on, and on "
        "CPUs with AVX512-BF16 or AMX; in float16 on GPUs.",
    )


def serving_engine(wanted: str, precision: str, place: str = AUTO) -> tuple[Engine, Device]:
    """Return the engine that serves, and its device.

    wanted: one of SERVING; precision: one of PRECISIONS; place: one of DEVICES.
    `auto` is the first of WITH_LEARNERS that is installed and computes in the precision on the first GPU, and OpenVINO
    without one. Their imports take seconds, so `auto` looks for GPUs only where one has a device file. A GPU that
    cannot be used is only an error if `place` asks for one: else warnings give the reasons. Raises UserError if the
    engine is not installed, DeviceError if no GPU can be used.
    """
    if place == "gpu":
        return _engine_on_gpu(wanted, precision)
    if place == "cpu":
        engine = OPENVINO if wanted == AUTO else _candidates("SEMSEG_BACKEND", wanted)[0]
        return engine, engine.cpu()
    if wanted == OPENVINO.name or (wanted == AUTO and not gpu_files()):
        return OPENVINO, OPENVINO.cpu()
    engines = (
        _candidates("SEMSEG_BACKEND", wanted) if wanted != AUTO else [e for e in WITH_LEARNERS if e.is_installed()]
    )
    warnings = [] if engines else [f"Serving on the CPU: no engine that would use {gpu_files()[0]} is installed."]
    for engine in engines:
        device, warning = _gpu_or_cpu(engine)
        if device and device.gpus:
            if wanted != AUTO or _serves_in(engine, device, precision):
                if device.gpus > 1:
                    logger.warning("%d GPUs found; the first is used.", device.gpus)
                return engine, device
            warning = f"Serving on the CPU: {engine.title} does not compute in {precision} on this GPU."
        warnings.append(warning)
    for warning in filter(None, warnings):
        logger.warning(warning)
    return (OPENVINO, OPENVINO.cpu()) if wanted == AUTO else (engines[0], engines[0].cpu())


def _engine_on_gpu(wanted: str, precision: str) -> tuple[Engine, Device]:
    """The engine, or for `auto` the first of WITH_LEARNERS, that can use the first GPU, and this GPU.

    One that computes in the precision there is preferred; the error of another will say so.
    """
    found: list[tuple[Engine, Device]] = []
    refusals: list[tuple[Engine, DeviceError]] = []
    for engine in _candidates("SEMSEG_BACKEND", wanted):
        try:
            found.append((engine, engine.find_device(required=True)))
        except DeviceError as error:
            refusals.append((engine, error))
    if not found:
        raise next((error for engine, error in refusals if engine.is_for_gpus()), refusals[0][1])
    return next((one for one in found if _serves_in(*one, precision)), found[0])


def _serves_in(engine: Engine, gpu: Device, precision: str) -> bool:
    """Whether an engine serves in a precision on a GPU; none does in int8."""
    return precision in (AUTO, "f32") or (precision == "bf16" and "bfloat16" in engine.precisions(gpu))


def _gpu_or_cpu(engine: Engine) -> tuple[Device | None, str]:
    """The engine's first GPU, or else the CPU, and a warning if there is a GPU that is not used.

    The device is None if the engine fails because of a GPU: then it may not even load.
    """
    files = gpu_files()
    try:
        device = engine.find_device(required=bool(files) and engine.is_for_gpus())
    except DeviceError as error:
        return None, f"Serving on the CPU. {error}"
    if files and not device.gpus:
        unused = f"{engine.title}'s cpu variant, which is installed, does not use {files[0]}."
        return device, f"Serving on the CPU: {unused}"
    return device, ""


def _evidence_of_gpu(instance: str) -> str:
    """The reason to expect a GPU on this machine, as a sentence without its full stop; empty if there is none."""
    if instance:
        return f"The instance is {instance}"
    files = gpu_files()
    return f"The machine has the device file {files[0]}" if files else ""
