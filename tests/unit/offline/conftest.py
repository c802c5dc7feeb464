from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_model import known, write_small_model

from semseg.types import UInt8

CLASSES = 4


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's model directory, whose network gives each of four classes a band of brightness."""
    return write_small_model(tmp_path_factory.mktemp("job") / "model", CLASSES, banded=True)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    """Tests here may load this model."""
    with known():
        yield


def noise(seed: int, width: int = 40, height: int = 30) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of six images of different sizes, in sub-folders."""
    folder = tmp_path / "images"
    names = ["a.png", "b.png", "town/a.png", "town/c.png", "town/far/d.png", "e f.png"]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(seed, width=40 + seed)).save(folder / name)
    return folder
