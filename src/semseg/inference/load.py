"""From a model directory to a predictor."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.artifact.params import read_params
from semseg.inference.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, and what its directory said of it."""

    predictor: Predictor
    description: ModelDescription


def load_predictor(model_dir: Path) -> LoadedModel:
    """Load the network of a model directory onto the first GPU, else the CPU; takes seconds.

    Raises ArtifactError when the directory has no readable model.
    """
    model = describe(model_dir)  # first: what is wrong here should not wait for MXNet
    from semseg.engines.gluon import backend, runtime  # here: importing MXNet takes two seconds and starts threads

    _, gpus = runtime.devices()
    if gpus > 1:
        logger.warning("%d GPUs found; the first is used.", gpus)
    logger.info("Number of GPUs being used: %d", min(gpus, 1))
    logger.info("Loading weights from %s", model.params)
    network = backend.load_backend(
        model.algorithm, model.backbone, model.num_classes, read_params(model.params), str(model.params)
    )
    return LoadedModel(Predictor(network, model.num_classes), model)
