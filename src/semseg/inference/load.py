"""Loads a predictor from a model directory, on the requested engine or the best one available."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.engines.choose import serving_engine
from semseg.engines.protocols import AUTO, BackendOptions
from semseg.inference import memory
from semseg.inference.predictor import Predictor
from semseg.inference.scaling import MODEL, scale_of
from semseg.machine import free_memory, usable_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, its description, and the bytes of memory left for images and answers.

    engine: the name of the engine that computes it, and precision: the number format.
    """

    predictor: Predictor
    description: ModelDescription
    memory: int
    engine: str = ""
    precision: str = ""


def load_predictor(
    model_dir: Path,
    backend: str = AUTO,
    precision: str = AUTO,
    max_tile_pixels: int = 0,
    cache_dir: Path | None = None,
    cores: int | None = None,
    processes: int = 1,
    scale: str = MODEL,
    place: str = AUTO,
) -> LoadedModel:
    """Load the network of a model directory; takes a second with OpenVINO, several with MXNet or PyTorch.

    backend: one of `choose.SERVING`; precision: one of `protocols.PRECISIONS`.
    max_tile_pixels: the most pixels that the network gets at a time, 0 for what the memory of the GPU or host allows.
    cache_dir: where OpenVINO keeps compiled models for the next start; ignored with a warning if it is not this user's
    own. cores: the number to compute on, None for all of this process. processes: the number that share the
    memory. scale: the size at which the network gets images: `model`, `none`, `base` or a factor, as in `scaling`.
    place: one of `choose.DEVICES`. Raises ArtifactError when the directory has no readable model or none of this
    precision, UserError when the engine or the CPU does not support the precision, or the model not the scale,
    DeviceError when a GPU is asked for and cannot be used.
    """
    model = describe(model_dir)  # first, so that errors in the directory appear before an engine is loaded
    served = scale_of(model, scale)
    engine, device = serving_engine(backend, precision, place)
    logger.info("Number of GPUs being used: %d", min(device.gpus, 1))
    network = engine.backend(model, device, BackendOptions(precision, cores or usable_cores(), cache_dir))
    on_device = network.device_memory()
    pixels, left = memory.divided(
        free_memory() // processes,
        None if on_device is None else on_device // processes,
        network.bytes_per_pixel,
        max_tile_pixels,
    )
    logger.info("Images of more than %d pixels are cut into tiles.", pixels)
    predictor = Predictor(network, model.num_classes, pixels, str(model_dir), served)
    return LoadedModel(predictor, model, left, engine.name, network.precision)
