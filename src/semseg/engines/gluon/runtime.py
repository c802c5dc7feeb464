"""Loads MXNet once, quietly, with its settings made, and finds the device."""

from __future__ import annotations

import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from semseg.engines.gluon import cuda
from semseg.errors import DeviceError
from semseg.machine import usable_cores

AUTOTUNE = "MXNET_CUDNN_AUTOTUNE_DEFAULT"

_SETTINGS = {
    "MXNET_MKLDNN_CACHE_NUM": "200",  # oneDNN keeps its primitives for every image size seen, 5 MB a size, for ever
    AUTOTUNE: "0",  # cuDNN would time its algorithms anew for every image size: see `tunes`
    "MXNET_CUDNN_LIB_CHECKING": "0",  # a warning at each start that cuDNN is newer than the one MXNet was built with
    "MXNET_USE_FUSION": "0",  # drivers of the 470 series reject what NVRTC 11.8 compiles
    "NVIDIA_TF32_OVERRIDE": "0",  # from A100 on, convolutions would round float32 to TF32's 10 bits
    "CUDA_MODULE_LOADING": "LAZY",  # drivers from CUDA 11.7 on then load the kernels that are used alone
}


@cache
def load() -> ModuleType:
    """Return the module `mxnet`, imported with `gluoncv`; the first call takes about two seconds.

    `make_settings` comes first. The deprecation warnings of this import are not shown.
    Raises DeviceError when libraries of the gpu variant are missing.
    """
    make_settings()
    cuda.preload()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import mxnet

        module: ModuleType = mxnet
        import gluoncv  # noqa: F401 after MXNet: of one that is missing it would say that torch is missing too
    return module


@cache
def make_settings() -> frozenset[str]:
    """Set the environment variables of MXNet and CUDA, but for those that somebody has set; return the names of ours.

    They are read when the libraries are loaded, or when they are first used. `OMP_NUM_THREADS`: left alone, MXNet uses
    half the cores of the machine, whatever the container is allowed.
    """
    settings = {"OMP_NUM_THREADS": str(usable_cores()), **_SETTINGS}
    ours = frozenset(settings.keys() - os.environ.keys())
    os.environ.update({name: settings[name] for name in ours})
    return ours


def tunes() -> bool:
    """Return whether cuDNN is to time its algorithms for a graph of one shape, which pays: not if AUTOTUNE was set."""
    return AUTOTUNE in make_settings()


def devices(required: bool = False) -> tuple[Any, int]:
    """Return the MXNet context to compute on (the first GPU, else the CPU) and the number of GPUs found.

    Raises DeviceError, with the cause and the way out, when the first GPU is one that MXNet cannot use, and when none
    is found although one is `required`.
    """
    mx = load()
    try:
        gpus: int = mx.context.num_gpus()
    except mx.base.MXNetError as error:
        raise DeviceError(
            f"The GPU cannot be used: {str(error).strip().splitlines()[-1]}",
            "See that the machine's NVIDIA driver works (nvidia-smi) and supports CUDA 11.",
        ) from error
    if gpus:
        cuda.require_code_for_first_gpu(cuda.driver())
    elif required:
        raise cuda.why_none(cuda.driver() if cuda.is_installed() else None)
    return (mx.gpu(0) if gpus else cpu()), gpus


def cpu() -> Any:
    """Return the MXNet context of the CPU, without looking for a GPU."""
    return load().cpu()


def device_memory(device: Any) -> int | None:
    """Return the bytes that are free on a GPU; None for the CPU, whose memory is the host's.

    What MXNet keeps of it for later use is given back first. Waits for the device.
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
