"""What the bench `gpu` needs MXNet itself for. The first of the devices is measured."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import numpy as np
from gluon_models import DoubleLearner, without_dropout
from untrained import initial_arrays, specification

from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.engine import MxnetEngine
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.types import Batch

ENGINE = MxnetEngine()
mx = runtime.load()


class _Entry:
    """An entry of an array that the device may still compute; as a float it waits."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __float__(self) -> float:
        return float(self._array[0, 0].asscalar())


def about(devices: Sequence[Any]) -> dict[str, Any]:
    """The device and the libraries."""
    device = devices[0]
    found: dict[str, Any] = {"python": platform.python_version(), "numpy": np.__version__, "mxnet": mx.__version__}
    found["device"] = device.device_type
    if device.device_type == "gpu":
        from semseg.engines import cuda_driver

        driver = cuda_driver.load_driver()
        gpu = cuda_driver.first_gpu(driver) if driver else None
        found["memory_gib"] = round(mx.context.gpu_memory_info(device.device_id)[1] / 2**30, 1)
        if gpu:
            found |= {"device": gpu.name, "capability": f"{gpu.major}.{gpu.minor}"}
    return found


def product(devices: Sequence[Any], _: str, side: int) -> Callable[[], SupportsFloat]:
    """Multiplies two square matrices of float32."""
    first, second = (mx.nd.random.normal(shape=(side, side), ctx=devices[0]) for _ in "12")
    return lambda: _Entry(mx.nd.dot(first, second))


def gibibyte(devices: Sequence[Any]) -> object:
    """Takes a GiB of the device's memory, until the result is dropped."""
    array = mx.nd.zeros((2**28,), ctx=devices[0])
    array.wait_to_read()
    return array


def forget_peak(devices: Sequence[Any]) -> None:
    """Begins `peak_bytes` anew."""
    runtime.device_memory(devices[0])


def peak_bytes(devices: Sequence[Any]) -> int:
    """The GPU's memory that is in use, with what MXNet keeps for later use, and what other processes hold."""
    mx.nd.waitall()
    free, total = mx.context.gpu_memory_info(devices[0].device_id)
    return int(total - free)


def losses(devices: Sequence[Any], num_classes: int, batch: Batch, rate: float, steps: int) -> list[float]:
    """The losses of some steps of FCN on ResNet-50, from its initial values and without dropout, in float64."""
    model = networks.build(by_name("fcn", NETWORKS), by_name("resnet-50", BACKBONES), num_classes, devices[0])
    networks.assign(networks.parameters(model), initial_arrays("fcn", "resnet-50", num_classes), "initial values")
    without_dropout(model)
    model.cast("float64")
    learner = DoubleLearner(specification("fcn", num_classes), devices[:1], model)
    return [float(learner.train_step(batch, rate, seed)) for seed in range(steps)]
