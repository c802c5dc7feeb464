from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.data.files import LocalFile
from semseg.data.pairs import Pair
from semseg.machine import usable_cores
from semseg.types import UInt8

PairWriter = Callable[..., Pair]


@pytest.fixture
def write_pair(tmp_path: Path) -> PairWriter:
    """Writes train/<stem>.png and train_annotation/<stem>.png: an image of a size, random from the stem, and a mask.

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
def channels(tmp_path: Path) -> tuple[Path, Path]:
    """Empty folders of images and of their masks."""
    images, masks = tmp_path / "train", tmp_path / "train_annotation"
    images.mkdir()
    masks.mkdir()
    return images, masks


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of the process, empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def pools_with_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[int]]:
    """Makes this a machine of 64 cores whose cgroup has the `cpu.max` given; returns the sizes of the pools to come."""

    def limit(quota: str) -> list[int]:
        sizes: list[int] = []

        class Counted(ThreadPoolExecutor):
            def __init__(self, workers: int, thread_name_prefix: str) -> None:
                sizes.append(workers)
                super().__init__(workers, thread_name_prefix)

        cgroup = tmp_path / "cgroup"
        cgroup.mkdir()
        (cgroup / "cpu.max").write_text(quota)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
        for module in ("check", "loader", "samples"):
            monkeypatch.setattr(f"semseg.data.{module}.usable_cores", partial(usable_cores, cgroup))
        monkeypatch.setattr("semseg.data.threads.ThreadPoolExecutor", Counted)
        return sizes

    return limit
