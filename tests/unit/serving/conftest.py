from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.artifact.model_dir import ModelDescription
from semseg.engines.protocols import Backend
from semseg.inference.load import LoadedModel
from semseg.inference.predictor import Predictor
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.types import Classes, Float32

Loaded = Callable[..., LoadedModel]


class Brightest(OnHost):
    """A backend of three classes, the channels: the brightest wins."""

    def logits(self, images: Float32) -> Float32:
        return images[:, :, ::8, ::8] * np.float32(10)


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """A loaded model with a backend of the test's own."""

    def loaded(backend: Backend, num_classes: int = 3, memory: int = 10**9) -> LoadedModel:
        description = ModelDescription(
            NETWORKS[0],
            BACKBONES[0],
            num_classes=num_classes,
            crop_size=None,
            aux=True,
            params=Path("/nowhere/model_best.params"),
            classes=Classes.unknown(num_classes),
        )
        return LoadedModel(Predictor(backend, num_classes, max_tile_pixels=10**6), description, memory)

    return loaded


@pytest.fixture
def model(loaded: Loaded) -> LoadedModel:
    """A model of three classes: red, green and blue."""
    return loaded(Brightest())
