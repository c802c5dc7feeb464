"""Loads PyTorch once, with the right settings, and finds its device and what that computes in."""

from __future__ import annotations

import os
import re
import warnings
from ctypes import CDLL
from functools import cache
from types import ModuleType
from typing import Any

from semseg.engines import cuda_driver
from semseg.engines.cuda_driver import Gpu
from semseg.errors import DeviceError
from semseg.machine import has_bf16, is_bf16_faster, usable_cores

_SPINS = "1000"
"""How often OpenMP's threads look for work before they sleep; libgomp's own default is 300,000. With that, threads that
wait hold the cores that others need, such as those that decode images: beside other processes a training step on two
cores took 2 to 10 times as long [measured]."""

_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([a-z]?)")

_OTHERS = "Use an instance with another GPU, such as those of the families G4dn, G5, G6 or P5, or the engine mxnet."


@cache
def load() -> ModuleType:
    """Return the module `torch`; the first call takes seconds. float32 is float32: TF32 is off.

    Without OMP_NUM_THREADS, PyTorch would use all cores of the machine, whatever the container may use.
    Raises DeviceError when it or a library that it needs cannot be loaded.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # a lost rank is reported by GroupError, without C++ frames
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: where an import failed before
        raise DeviceError(
            f"PyTorch cannot be loaded: {' '.join(str(error).split())}",
            "Install it again, its CUDA build with the packages of NVIDIA that it asks for.",
        ) from error
    module: ModuleType = torch
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    return module


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round what convolutions multiply in float32 to TF32's 10 bits, or not. Other products stay exact, such
    as those of the interpolation.
    """
    load().backends.cudnn.conv.fp32_precision = "tf32" if allowed else "ieee"


def is_for_gpus() -> bool:
    """Return whether PyTorch's CUDA build is installed and can be loaded."""
    try:
        return load().version.cuda is not None
    except DeviceError:
        return False


def devices(required: bool = False) -> tuple[Any, int]:
    """Return the torch.device to compute on (the first GPU, else the CPU) and the number of GPUs like it.

    Of different GPUs those up to the first of another kind are counted, with a warning. No context stays on the GPUs.
    Raises DeviceError, with the cause and a way out, when PyTorch cannot use the first one, and when none is found
    although one is `required`.
    """
    torch = load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the errors here explain
        gpus: int = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if gpus:
            driver = cuda_driver.load_driver()
            _require_use(torch, driver)
            gpus = cuda_driver.like_the_first(driver, gpus) if driver else gpus
    if required and not gpus:
        raise _why_none(torch)
    return (torch.device("cuda", 0) if gpus else cpu()), gpus


def cpu() -> Any:
    """Return the torch.device of the CPU, without looking for a GPU. Raises DeviceError as `load` does."""
    return load().device("cpu")


def precisions(device: Any) -> tuple[str, ...]:
    """Return the number formats that training may compute in on a device, the one for `auto` first."""
    if device.type == "cpu":
        if is_bf16_faster():
            return ("bfloat16", "float32")
        return ("float32", "bfloat16") if has_bf16() else ("float32",)
    return ("bfloat16", "float32", "float16") if is_ampere(device) else ("float32", "float16")


def is_ampere(device: Any) -> bool:
    """Return whether a device is a GPU of the Ampere generation or newer, which multiply in bfloat16 and TF32."""
    return bool(device.type == "cuda" and load().cuda.get_device_capability(device)[0] >= 8)


def device_memory(device: Any) -> int | None:
    """Return the free bytes of a GPU, or None for the CPU.

    First releases the memory that PyTorch keeps for later use. Waits for the device.
    """
    if device.type == "cpu":
        return None
    cuda = load().cuda
    cuda.synchronize(device)
    cuda.empty_cache()
    free: int = cuda.mem_get_info(device)[0]
    return free


def no_code(subject: str = "is one for which") -> DeviceError:
    """Return the error that PyTorch has no machine code for a GPU; `subject` begins its sentence."""
    built = " ".join(load().cuda.get_arch_list())
    return DeviceError(f"The GPU {subject} this build of PyTorch has no machine code; it has for {built}.", _OTHERS)


def has_code(architectures: list[str], major: int, minor: int) -> bool:
    """Return whether a build for these architectures, such as sm_86, has code for a GPU of a compute capability.

    Machine code (sm) also runs on later minor versions of the same major one, and code that the driver translates
    (compute) on all later ones; with a letter after the number, as in sm_90a, neither does (CUDA C++ Programming Guide,
    "Application Compatibility").
    """
    for kind, built_major, built_minor, letter in _ARCHITECTURE.findall(" ".join(architectures)):
        version = int(built_major), int(built_minor)
        if version == (major, minor):
            return True
        if not letter and version < (major, minor) and (kind == "compute" or version[0] == major):
            return True
    return False


def _require_use(torch: ModuleType, driver: CDLL | None) -> None:
    """Raise DeviceError unless the first GPU computes. Without this check the first kernel would fail obscurely.

    Leaves no context on the GPU: the process of `train` may only start those that compute there. PyTorch makes one for
    a tensor, or to tell the free memory, but neither to count GPUs nor to describe them (pytorch/pytorch #99533,
    #103584).
    """
    try:
        major, minor = torch.cuda.get_device_capability(0)
        if not has_code(torch.cuda.get_arch_list(), major, minor):
            raise no_code(f"{Gpu(torch.cuda.get_device_name(0), major, minor)}, for which")
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        raise _unusable(str(error).strip().splitlines()[0]) from error
    if driver and (fault := cuda_driver.why_unusable(driver)):
        raise _unusable(fault)


def _unusable(fault: str) -> DeviceError:
    return DeviceError(
        f"The GPU cannot be used: {fault.rstrip('.')}.",
        "Check that nvidia-smi works on the machine, and that no other process holds the GPU.",
    )


def _why_none(torch: ModuleType) -> DeviceError:
    if torch.version.cuda is None:
        return DeviceError(
            "No GPU can be used: PyTorch's CPU build is installed.", "Use the torch image, or install its CUDA build."
        )
    return cuda_driver.why_none(cuda_driver.load_driver(), "PyTorch", int(torch.version.cuda.partition(".")[0]))
