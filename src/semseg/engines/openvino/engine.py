"""OpenVINO as an engine: serves on CPUs, from a model directory's ONNX files or from its parameters."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from semseg.artifact import onnx_file
from semseg.artifact.gate import read_gate
from semseg.artifact.model_dir import INT8, ONNX, ModelDescription
from semseg.codecs.params import read_params
from semseg.engines.group import Group
from semseg.engines.protocols import AUTO, Backend, BackendOptions, Device, Learner
from semseg.errors import ArtifactError, DeviceError, UserError
from semseg.machine import has_bf16, is_bf16_faster, is_own

logger = logging.getLogger(__name__)

_CPU = Device("CPU")
_NO_INT8_HINT = "`semseg quantize` makes one. Or set SEMSEG_PRECISION to auto, bf16 or f32."


class OpenVinoEngine:
    """The engine that computes with OpenVINO; see `protocols.Engine`. OpenVINO is loaded with the first model."""

    name = "openvino"
    title = "OpenVINO"
    installation = "pip install openvino"
    trains_in_groups = False

    def is_installed(self) -> bool:
        """Return True: every variant of this project needs it."""
        return True

    def is_for_gpus(self) -> bool:
        """Return False: this project uses OpenVINO on CPUs only."""
        return False

    def find_device(self, required: bool) -> Device:
        """Return the CPU. Raises DeviceError when a GPU is required."""
        if required:
            raise DeviceError("OpenVINO is used on CPUs only.", "Set SEMSEG_BACKEND to mxnet or torch.")
        return _CPU

    def cpu(self) -> Device:
        """Return the CPU."""
        return _CPU

    def precisions(self, _: Device) -> tuple[str, ...]:
        """Return none: OpenVINO does not train."""
        return ()

    def join(self, *_: object) -> Group:
        """Raise UserError: OpenVINO does not train."""
        raise UserError("OpenVINO does not train networks.", "Use another engine.")

    def learner(self, *_: object) -> Learner:
        """Raise UserError: OpenVINO does not train."""
        raise UserError("OpenVINO does not train networks.", "Use another engine.")

    def backend(self, model: ModelDescription, _: Device, options: BackendOptions) -> Backend:
        """Return the network of a model directory; see `protocols.Engine`.

        `auto` is int8 if the directory has a model_int8.onnx that passed its gate, else bf16 if the CPU supports it,
        else f32. Without a valid model.onnx the parameters are converted.
        """
        if self.name not in model.network.bytes_per_pixel:
            raise UserError(f"OpenVINO does not compute {model.network.title}.", "Use another engine.")
        from semseg.engines.openvino.backend import OpenVinoBackend

        precision, cores, directory = options.precision, options.cores, model.params.parent
        compiled = partial(
            OpenVinoBackend,
            network=model.network,
            num_classes=model.num_classes,
            cores=cores,
            cache=_own(options.cache_dir),
        )
        if precision == "bf16" and not has_bf16():
            raise UserError(
                "SEMSEG_PRECISION is bf16, but this CPU has neither AVX512-BF16 nor AMX, which it needs.",
                "Set SEMSEG_PRECISION to auto or f32, or serve on another machine.",
            )
        path = directory / INT8
        if precision == "int8" or (precision == AUTO and path.exists()):
            try:
                return _load_int8(model, path, cores, compiled)
            except ArtifactError as error:
                if precision == "int8":
                    raise
                logger.warning("%s is ignored. %s", INT8, error)
        if precision == AUTO:
            precision = "bf16" if is_bf16_faster() else "f32"
        logger.info("OpenVINO computes in %s on %d cores.", precision, cores)
        compiled = partial(compiled, precision=precision)
        return _load_onnx(model, directory / ONNX, compiled) or _convert(model, compiled)


def _load_int8(model: ModelDescription, path: Path, cores: int, compiled: Callable[..., Backend]) -> Backend:
    """The int8 network; raises ArtifactError if its file is absent, damaged, of other parameters or failed its gate."""
    if not path.exists():
        raise ArtifactError(f"{path.parent} has no int8 model, {path.name}.", _NO_INT8_HINT)
    gate = read_gate(onnx_file.verify(path, model.digest))
    if gate is None or not gate.passed:
        raise ArtifactError(f"{path} did not pass its gate: {gate or 'it has no mIOU'}.", _NO_INT8_HINT)
    network = compiled(path, precision="int8")
    logger.info("OpenVINO computes in int8 on %d cores: %s.", cores, gate)
    logger.info("Loading weights from %s", path)
    return network


def _load_onnx(model: ModelDescription, path: Path, compiled: Callable[[Path], Backend]) -> Backend | None:
    """The network of an ONNX file; None if absent, or, with a warning, if it is damaged or of other parameters."""
    if not path.exists():
        return None
    try:
        onnx_file.verify(path, model.digest)
        network = compiled(path)
    except ArtifactError as error:
        logger.warning("%s is ignored, %s is converted instead. %s", path.name, model.params.name, error)
        return None
    logger.info("Loading weights from %s", path)
    return network


def _convert(model: ModelDescription, compiled: Callable[[bytes], Backend]) -> Backend:
    """The network converted from the parameters."""
    from semseg.networks.onnx import onnx_model  # here: ONNX files do not need the onnx package

    logger.info("Loading weights from %s", model.params)
    arrays = read_params(model.params)
    content = onnx_model(model.network, model.backbone, model.num_classes, arrays, str(model.params))
    return compiled(content.SerializeToString())


def _own(cache_dir: Path | None) -> Path | None:
    """The folder, created if necessary; None, with a warning, if others could put code into it that would be run."""
    if cache_dir is None:
        return None
    with suppress(OSError):
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_own(cache_dir) and os.access(cache_dir, os.W_OK | os.X_OK):
        return cache_dir
    logger.warning("SEMSEG_CACHE_DIR is ignored: %s is not a writable folder of this user alone.", cache_dir)
    return None
