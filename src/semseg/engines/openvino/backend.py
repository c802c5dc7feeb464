"""Runs a network with OpenVINO, on a CPU."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from semseg.errors import ArtifactError
from semseg.networks.definitions import Network
from semseg.types import Float32

logger = logging.getLogger(__name__)

_PRIMITIVES_KEPT = 1000
"""The number of kernels that OpenVINO keeps, over 50 for each image size, which take 3 MB; its default is 5000."""


class OpenVinoBackend:
    """A network compiled for this machine's CPU. Only one thread may call it."""

    def __init__(
        self,
        model: Path | bytes,
        network: Network,
        num_classes: int,
        precision: str,
        cores: int,
        cache: Path | None = None,
    ) -> None:
        """model: an ONNX file of the network, or its content; precision: `f32` or `bf16`, or `int8` if
        the model itself rounds to it, and all else is f32; cores: the number to compute on; cache: a folder that keeps
        compiled models.

        Raises ArtifactError when OpenVINO cannot read the model, or when it has other inputs or outputs.
        """
        self.stride = network.stride
        self.bytes_per_pixel = network.bytes_per_pixel["openvino"]
        self.precision = precision
        name = str(model) if isinstance(model, Path) else "the network"
        try:
            graph = core().read_model(model)
            _check(graph, num_classes, name)
            hint = "f32" if precision == "int8" else precision
            self._request = _compile(graph, settings(hint, cores), cache).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"OpenVINO cannot run {name}: {reason:.300}") from error

    def logits(self, images: Float32) -> Float32:
        """Normalised RGB float32 (N, 3, H, W) -> float32 (N, classes, ceil(H/stride), ceil(W/stride)), any H and W."""
        self._request.infer({0: np.ascontiguousarray(images)}, share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)  # a copy: its memory is reused

    def device_memory(self) -> None:
        """Return None: the CPU computes in the host's memory."""


@functools.cache
def core() -> openvino.Core:
    """OpenVINO's entry point, one per process.

    Each core gives its thread a stack for signals while it lives, and restores the previous one at its end. With two
    overlapping cores, the later would restore the earlier's freed stack, and the next signal would end the process.
    """
    return openvino.Core()


def settings(precision: str, cores: int) -> dict[str, str | int | bool]:
    """OpenVINO's settings; precision: `f32` or `bf16`, for all that the model itself does not round to int8.

    The precision is always set, because OpenVINO by default takes bf16 if the CPU has it. Threads are not pinned to
    cores, because two containers would choose the same ones.
    """
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "CPU_RUNTIME_CACHE_CAPACITY": _PRIMITIVES_KEPT,
    }


def scalar_outputs(model: bytes, cores: int, images: Iterable[Float32], count: int) -> NDArray[np.float64]:
    """Run an ONNX model in f32, and return its first `count` outputs, single numbers, as float64 (images, count).

    images: normalised float32 (1, 3, H, W).
    """
    request = core().compile_model(core().read_model(model), "CPU", settings("f32", cores)).create_infer_request()
    rows = []
    for image in images:
        request.infer({0: image})
        rows.append([float(request.get_output_tensor(index).data) for index in range(count)])
    return np.array(rows, np.float64)


def _compile(
    network: openvino.Model, options: dict[str, str | int | bool], cache: Path | None
) -> openvino.CompiledModel:
    if cache:
        try:
            return core().compile_model(network, "CPU", options | {"CACHE_DIR": str(cache)})
        except RuntimeError as error:  # the disk is full, or a cached file is damaged
            logger.warning("The cache in %s cannot be used: %.300s", cache, " ".join(str(error).split()))
    return core().compile_model(network, "CPU", options)


def _check(network: openvino.Model, num_classes: int, name: str) -> None:
    shapes = [port.partial_shape.to_string() for port in (*network.inputs, *network.outputs)]
    if len(shapes) != 2 or not shapes[0].startswith("[?,3,") or not shapes[1].startswith(f"[?,{num_classes},"):
        raise ArtifactError(f"{name} is not a network of {num_classes} classes: its inputs and outputs are {shapes}.")
