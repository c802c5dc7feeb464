from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.data.files import LocalFile
from semseg.data.pairs import Pair
from semseg.types import UInt8

PairWriter = Callable[..., Pair]


@pytest.fixture
def write_pair(tmp_path: Path) -> PairWriter:
    """Writes train/<stem>.png and train_annotation/<stem>.png: a picture of a size, random from the stem, and a mask.

    Both are `LocalFile`s.
    """

    def write(stem: str, mask: UInt8 | None = None, size: tuple[int, int] = (8, 10), split: str = "train") -> Pair:
        rng = np.random.default_rng([ord(letter) for letter in stem])
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        labels = rng.integers(0, 3, size).astype(np.uint8) if mask is None else mask
        image, annotation = tmp_path / split / f"{stem}.png", tmp_path / f"{split}_annotation" / f"{stem}.png"
        for path, array in ((image, pixels), (annotation, labels)):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        return Pair(LocalFile(image), LocalFile(annotation))

    return write


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of the process, empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"
