"""Loads MXNet once, quietly, with all the cores it may use, and finds the device."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from semseg.engines.gluon import cuda
from semseg.engines.machine import usable_cores
from semseg.errors import DeviceError


@cache
def load() -> ModuleType:
    """Return the module `mxnet`, imported with `gluoncv`; the first call takes about two seconds.

    Two settings are made first, unless somebody did. `OMP_NUM_THREADS`: left alone, MXNet uses half the cores of the
    machine, whatever the container is allowed. `MXNET_MKLDNN_CACHE_NUM`: oneDNN keeps its primitives for every image
    size seen, 5 MB a size, for ever. The deprecation warnings of this import are not shown.
    Raises DeviceError when libraries of the gpu variant are missing.
    """
    cuda.preload()
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("MXNET_MKLDNN_CACHE_NUM", "200")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mxnet = importlib.import_module("mxnet")
        importlib.import_module("gluoncv")
    return mxnet


def seems_to_have_gpu(dev: Path = Path("/dev")) -> bool:
    """Whether there is a device file of NVIDIA's driver, such as /dev/nvidia0: only then can MXNet find a GPU."""
    return any(dev.glob("nvidia[0-9]*"))


def devices() -> tuple[Any, int]:
    """Return the MXNet context to compute on (the first GPU, else the CPU) and the number of GPUs found.

    Raises DeviceError when the first GPU is one that MXNet cannot use.
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
    return (mx.gpu(0) if gpus else mx.cpu()), gpus


def to_device(array: NDArray[Any], device: Any) -> Any:
    """Copy a host array to the device, with its dtype (`mx.nd.array` would turn it to float32 on the host)."""
    copy = load().nd.empty(array.shape, ctx=device, dtype=array.dtype)
    copy[:] = array
    return copy
