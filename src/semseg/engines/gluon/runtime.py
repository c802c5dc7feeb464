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

from semseg.engines.machine import usable_cores


@cache
def load() -> ModuleType:
    """Return the module `mxnet`, imported with `gluoncv`; the first call takes about two seconds.

    Two settings are made first, unless somebody did. `OMP_NUM_THREADS`: left alone, MXNet uses half the cores of the
    machine, whatever the container is allowed. `MXNET_MKLDNN_CACHE_NUM`: oneDNN keeps its primitives for every image
    size seen, 5 MB a size, for ever. The deprecation warnings of this import are not shown.
    """
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
    """Return the MXNet context to compute on (the first GPU, else the CPU) and the number of GPUs found."""
    mx = load()
    gpus: int = mx.context.num_gpus()
    return (mx.gpu(0) if gpus else mx.cpu()), gpus


def to_device(array: NDArray[Any], device: Any) -> Any:
    """Copy a host array to the device, with its dtype (`mx.nd.array` would turn it to float32 on the host)."""
    copy = load().nd.empty(array.shape, ctx=device, dtype=array.dtype)
    copy[:] = array
    return copy
