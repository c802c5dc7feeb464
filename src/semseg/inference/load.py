"""From a model directory to a predictor: which engine runs it, from which file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from semseg import machine
from semseg.artifact import onnx_file
from semseg.artifact.gate import read_gate
from semseg.artifact.model_dir import INT8, ONNX, ModelDescription, describe
from semseg.codecs.params import read_params
from semseg.engines.gluon import cuda, runtime
from semseg.engines.protocols import Backend
from semseg.errors import ArtifactError, DeviceError, UserError
from semseg.inference import memory
from semseg.inference.predictor import Predictor

logger = logging.getLogger(__name__)

AUTO = "auto"
BACKENDS = (AUTO, "mxnet", "openvino")
PRECISIONS = (AUTO, "f32", "bf16", "int8")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, what its directory said of it, and the bytes left for pictures and answers."""

    predictor: Predictor
    description: ModelDescription
    memory: int


def load_predictor(
    model_dir: Path,
    backend: str = AUTO,
    precision: str = AUTO,
    max_tile_pixels: int = 0,
    cache_dir: Path | None = None,
    cores: int | None = None,
    processes: int = 1,
) -> LoadedModel:
    """Load the network of a model directory; takes a second with OpenVINO, several with MXNet.

    backend: one of BACKENDS; `auto` is MXNet on the first GPU, and OpenVINO without one. Its import takes two seconds,
    so `auto` asks MXNet for GPUs only where the driver has a device file; if none can be used, a warning tells why.
    precision: one of PRECISIONS, for OpenVINO;
    `auto` is int8 where the directory has a model_int8.onnx that passed its gate, else bf16 where the CPU computes in
    it, else f32.
    max_tile_pixels: pixels that the network gets at a time, 0 for what memory allows, a GPU's own where one computes.
    cache_dir: of what OpenVINO compiled, for the next start; with a warning, none if it is not this user's own. cores:
    that OpenVINO computes on, None for all of this process. processes: that share the memory.
    Raises ArtifactError when the directory has no readable model or none of this precision, UserError when the engine
    or the CPU does not compute in the precision.
    """
    model = describe(model_dir)  # first: what is wrong here should not wait for MXNet
    ask_mxnet = backend == "mxnet" or (backend == AUTO and cuda.device_files())
    device, gpus = _device() if ask_mxnet else (None, 0)
    if gpus > 1:
        logger.warning("%d GPUs found; the first is used.", gpus)
    logger.info("Number of GPUs being used: %d", min(gpus, 1))
    engine = "mxnet" if backend == "mxnet" or gpus else "openvino"
    if engine == "mxnet":
        network = _load_mxnet(model, precision, device)
    else:
        network = _load_openvino(model, model_dir, precision, _own(cache_dir), cores or machine.usable_cores())
    free, on_gpu = machine.free_memory() // processes, runtime.device_memory(device) if gpus else None
    pixels, left = memory.divided(
        free,
        on_gpu and on_gpu // processes,
        memory.BYTES_PER_PIXEL[engine][model.algorithm],
        max_tile_pixels,
    )
    logger.info("Pictures of more than %d pixels are cut into tiles.", pixels)
    predictor = Predictor(network, model.num_classes, pixels, origin=str(model_dir))
    return LoadedModel(predictor, model, left)


def _device() -> tuple[Any, int]:
    """MXNet's device, the first GPU, else the CPU, and the number of GPUs; a warning where one is not used.

    None where MXNet fails over a GPU: it may not even load then, and OpenVINO does without.
    """
    files = cuda.device_files()
    try:
        device, gpus = runtime.devices(required=bool(files) and cuda.is_installed())
    except DeviceError as error:
        logger.warning("The CPU serves. %s", error)
        return None, 0
    if files and not gpus:
        logger.warning("The CPU serves: MXNet's cpu variant is installed, which does not use %s.", files[0])
    return device, gpus


def _load_mxnet(model: ModelDescription, precision: str, device: Any) -> Backend:
    if precision not in (AUTO, "f32"):
        raise UserError(
            f"SEMSEG_PRECISION is {precision}, but MXNet computes in f32 alone.",
            "Set SEMSEG_BACKEND to openvino too, or leave SEMSEG_PRECISION out.",
        )
    from semseg.engines.gluon import backend  # here: importing MXNet takes two seconds and starts threads

    logger.info("Loading weights from %s", model.params)
    return backend.load_backend(
        model.algorithm,
        model.backbone,
        model.num_classes,
        read_params(model.params),
        str(model.params),
        device or runtime.cpu(),
    )


def _own(cache_dir: Path | None) -> Path | None:
    """The folder, made if it is not there; None, with a warning, where others could put in what would be run."""
    if cache_dir is None:
        return None
    with suppress(OSError):
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if machine.is_own(cache_dir) and os.access(cache_dir, os.W_OK | os.X_OK):
        return cache_dir
    logger.warning("SEMSEG_CACHE_DIR is ignored: %s is no writable folder of this user alone.", cache_dir)
    return None


def _load_openvino(model: ModelDescription, model_dir: Path, precision: str, cache: Path | None, cores: int) -> Backend:
    from semseg.engines.openvino.backend import OpenVinoBackend, has_bf16

    compiled = partial(OpenVinoBackend, cores=cores, num_classes=model.num_classes, cache=cache)
    if precision == "bf16" and not has_bf16():
        raise UserError(
            "SEMSEG_PRECISION is bf16, but this CPU has neither AVX512-BF16 nor AMX, which compute in it.",
            "Set SEMSEG_PRECISION to auto or f32, or serve on another machine.",
        )
    path = model_dir / INT8
    if precision == "int8" or (precision == AUTO and path.exists()):
        try:
            return _load_int8(model, path, cores, compiled)
        except ArtifactError as error:
            if precision == "int8":
                raise
            logger.warning("%s is ignored. %s", INT8, error)
    if precision == AUTO:
        precision = "bf16" if has_bf16() else "f32"
    logger.info("OpenVINO computes in %s on %d cores.", precision, cores)
    path = model_dir / ONNX
    if path.exists():
        try:
            onnx_file.verify(path, model.digest)
            network = compiled(path, precision)
        except ArtifactError as error:
            logger.warning("%s is ignored, %s is converted instead. %s", ONNX, model.params.name, error)
        else:
            logger.info("Loading weights from %s", path)
            return network
    from semseg.exporting.onnx_model import build_onnx  # here: what is converted already needs no onnx

    logger.info("Loading weights from %s", model.params)
    return compiled(build_onnx(model), precision)


def _load_int8(model: ModelDescription, path: Path, cores: int, compiled: Callable[[Path, str], Backend]) -> Backend:
    """Raises ArtifactError when the file is absent, damaged, of other parameters, or did not pass its gate."""
    hint = "`semseg quantize` makes one. Or set SEMSEG_PRECISION to auto, bf16 or f32."
    if not path.exists():
        raise ArtifactError(f"{path.parent} has no int8 model, {path.name}.", hint)
    gate = read_gate(onnx_file.verify(path, model.digest))
    if gate is None or not gate.passed:
        raise ArtifactError(f"{path} did not pass its gate: {gate or 'it tells no mIOU'}.", hint)
    network = compiled(path, "f32")  # what the model itself leaves so
    logger.info("OpenVINO computes in int8 on %d cores: %s.", cores, gate)
    logger.info("Loading weights from %s", path)
    return network
