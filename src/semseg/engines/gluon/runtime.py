"""Loads MXNet once, quietly and with the right settings, and finds its devices."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, cast

from numpy.typing import NDArray

from semseg.engines import cuda_driver
from semseg.engines.gluon import cuda
from semseg.errors import DeviceError
from semseg.machine import usable_cores

AUTOTUNE = "MXNET_CUDNN_AUTOTUNE_DEFAULT"

_SETTINGS = {
    "MXNET_MKLDNN_CACHE_NUM": "200",  # oneDNN would keep its primitives of all image sizes for ever, 5 MB a size
    AUTOTUNE: "0",  # cuDNN would time its algorithms again for every image size: see `tunes`
    "MXNET_CUDNN_LIB_CHECKING": "0",  # it would warn at each start that MXNet was built with an older cuDNN
    "MXNET_USE_FUSION": "0",  # drivers of the 470 series reject what NVRTC 11.8 compiles
    "NVIDIA_TF32_OVERRIDE": "0",  # from A100 on, convolutions would round float32 to TF32's 10 bits
    "CUDA_MODULE_LOADING": "LAZY",  # drivers from CUDA 11.7 on then load only the kernels that are used
}


@cache
def load() -> ModuleType:
    """Return the module `mxnet`, imported with `gluoncv`; the first call takes about two seconds.

    Calls `apply_settings` first, and hides the import's deprecation warnings.
    Raises DeviceError when libraries of the gpu variant are missing.
    """
    apply_settings()
    cuda.preload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import mxnet

        module: ModuleType = mxnet
        with _without_torch():
            import gluoncv  # noqa: F401 after MXNet: if MXNet were missing, its error would blame torch too
    return module


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let no import find PyTorch, which GluonCV would import if it is there, to raise RuntimeError if it is 2 or newer.

    It only uses PyTorch for networks of its own that this project does not use.
    """
    imported = sys.modules.get("torch")
    sys.modules["torch"] = cast(ModuleType, None)  # what Python documents for this
    try:
        yield
    finally:
        del sys.modules["torch"]
        if imported:
            sys.modules["torch"] = imported


@cache
def apply_settings() -> frozenset[str]:
    """Set the environment variables of MXNet and CUDA that are not set yet; return the names of those that this sets.

    The libraries read them when they are loaded or first used. Without `OMP_NUM_THREADS`, MXNet would use half of the
    machine's cores, whatever the container may use.
    """
    settings = {"OMP_NUM_THREADS": str(usable_cores()), **_SETTINGS}
    unset = frozenset(settings.keys() - os.environ.keys())
    os.environ.update({name: settings[name] for name in unset})
    return unset


def tunes() -> bool:
    """Return whether cuDNN should time its algorithms for a graph of one shape: yes, unless the user set AUTOTUNE."""
    return AUTOTUNE in apply_settings()


def devices(required: bool = False) -> tuple[tuple[Any, ...], int]:
    """Return the MXNet contexts to compute on (the GPUs, else the CPU) and the number of GPUs.

    Of different GPUs those up to the first of another kind are returned, with a warning: parts of a batch are equal.
    Raises DeviceError, with the cause and a way out, when MXNet cannot use the first GPU, and when none is found
    although one is `required`.
    """
    mx = load()
    try:
        gpus: int = mx.context.num_gpus()
    except mx.base.MXNetError as error:
        raise DeviceError(
            f"The GPU cannot be used: {str(error).strip().splitlines()[-1]}",
            "Check that the machine's NVIDIA driver works (nvidia-smi) and supports CUDA 11.",
        ) from error
    if not gpus:
        if required:
            raise cuda.why_none()
        return (cpu(),), 0
    driver = cuda.driver()
    cuda.require_code_for_first_gpu(driver)
    alike = cuda_driver.like_the_first(driver, gpus)
    return tuple(mx.gpu(number) for number in range(alike)), alike


def cpu() -> Any:
    """Return the MXNet context of the CPU, without looking for a GPU."""
    return load().cpu()


def device_memory(device: Any) -> int | None:
    """Return the free bytes of a GPU, or None for the CPU.

    First releases the memory that MXNet keeps for later use. Waits for the device.
    """
    if device.device_type != "gpu":
        return None
    mx = load()
    mx.nd.waitall()
    device.empty_cache()
    free: int = mx.context.gpu_memory_info(device.device_id)[0]
    return free


def to_device(array: NDArray[Any], device: Any) -> Any:
    """Copy a host array to the device, with its dtype (`mx.nd.array` would turn it to float32 on the host)."""
    copy = load().nd.empty(array.shape, ctx=device, dtype=array.dtype)
    copy[:] = array
    return copy
