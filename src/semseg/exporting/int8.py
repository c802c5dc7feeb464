"""Quantizes a trained network to model_int8.onnx, and keeps the file if its accuracy passes the gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import onnx

from semseg.artifact.gate import MAX_FALL, Gate
from semseg.artifact.model_dir import ModelDescription
from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.exporting.calibration import activation_ranges, rounding_noise
from semseg.exporting.gate import compare
from semseg.exporting.onnx_model import build_onnx
from semseg.exporting.qdq import inner_convolutions, to_int8
from semseg.files import replacing
from semseg.inference import memory
from semseg.inference.predictor import Predictor, normalise
from semseg.inference.scaling import scale_of
from semseg.inference.scoring import Labelled
from semseg.machine import free_memory, usable_cores
from semseg.types import UInt8

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 16
"""More images change nothing [measured]."""

VALIDATION_IMAGES = 100
"""The most images of the gate, which predicts each of them twice."""

_F32_SHARES = (0, 1 / 16, 1 / 4)
"""The share of the convolutions that keep f32 in each attempt; with more of them int8 would be no faster than bf16."""

_NOISE_IMAGES = 4
_LONGEST_SIDE = 1024
"""Calibration images are cropped to this, because each layer's output is in memory, in f32."""


def quantize(
    model: ModelDescription,
    path: Path,
    calibration: Iterable[UInt8],
    validation: Callable[[], Iterable[Labelled]],
) -> Gate:
    """Write the network in int8 to the file `path` if it passes its gate; else remove the file. Returns the gate.

    calibration: RGB uint8 (H, W, 3), CALIBRATION_IMAGES of them, at least one, of the kind that will be served.
    validation: returns the images of the gate, from the start with each call. If accuracy falls too much, the
    convolutions with the largest error keep f32 in two further attempts; returns the last attempt's gate. The file has
    the metadata of model.onnx and both mIOUs. Raises ArtifactError when the parameters do not fit or the values are not
    finite, OSError, and whatever the iterables raise; the file is unchanged then.
    """
    cores = usable_cores()
    network = onnx.load_from_string(build_onnx(model))
    images = [normalise(_center(scale_of(model).resized(image))) for image in calibration]
    ranges = activation_ranges(network, images, cores)
    f32 = _predictor(network, model, cores)
    noisiest: list[str] = []
    for share in _F32_SHARES:
        if share and not noisiest:
            noisiest = _noisiest(rounding_noise(network, ranges, images[:_NOISE_IMAGES], cores))
        exact = noisiest[: round(share * len(noisiest))]
        rounded = to_int8(network, ranges, exact)
        gate = compare(f32, _predictor(rounded, model, cores), validation())
        logger.info("%s; %d of %d inner convolutions keep f32.", gate, len(exact), len(inner_convolutions(network)))
        if gate.passed:
            _write(rounded, gate, path)
            return gate
    logger.warning("int8 loses more than %.1f points of mIOU: %s is not written.", 100 * MAX_FALL, path.name)
    path.unlink(missing_ok=True)
    return gate


def _predictor(network: onnx.ModelProto, model: ModelDescription, cores: int) -> Predictor:
    backend = OpenVinoBackend(network.SerializeToString(), model.network, model.num_classes, "f32", cores)
    tile_pixels = memory.tile_pixels(free_memory(), backend.bytes_per_pixel)
    return Predictor(backend, model.num_classes, tile_pixels, str(model.params.parent), scale_of(model))


def _noisiest(noise: dict[str, float]) -> list[str]:
    return sorted(noise, key=lambda name: noise[name], reverse=True)


def _center(image: UInt8) -> UInt8:
    height, width, _ = image.shape
    top, left = max(0, height - _LONGEST_SIDE) // 2, max(0, width - _LONGEST_SIDE) // 2
    return image[top : top + _LONGEST_SIDE, left : left + _LONGEST_SIDE]


def _write(network: onnx.ModelProto, gate: Gate, path: Path) -> None:
    for key, value in gate.metadata().items():
        network.metadata_props.add(key=key, value=value)
    with replacing(path) as temporary:
        temporary.write_bytes(network.SerializeToString())
