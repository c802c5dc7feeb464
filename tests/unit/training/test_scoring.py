from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.codecs.masks import decode_mask
from semseg.data.s3 import ObjectStore
from semseg.data.shapes import write_shapes
from semseg.inference import tiling
from semseg.sagemaker.channels import Channels, Split
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.job import Stopped
from semseg.training.inputs import Input, open_test
from semseg.training.scoring import score
from semseg.types import Float32

SETTINGS, _ = parse({"num_classes": "4", "crop_size": "24", "validation_mini_batch_size": "16"})


def shapes(directory: Path, size: tuple[int, int]) -> Input:
    """Three pictures for a test."""
    write_shapes(directory, train=1, validation=3, size=size, seed=0)
    split = Split("test", directory / "validation", directory / "validation_annotation", None, False)
    with ObjectStore() as store:
        found = open_test(Channels(split, split, split, None, None), 4, store)
    assert found
    return found


class Background:
    """A learner that says class 0 everywhere, and remembers the sizes it was asked for."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def logits(self, images: Float32) -> Float32:
        self.sizes.append(images.shape)
        height, width = images.shape[2:]
        logits = np.zeros((1, 4, -(-height // 8), -(-width // 8)), np.float32)
        logits[:, 0] = 1
        return logits


@pytest.mark.parametrize("size", [(70, 50), (600, 400)])
def test_whole_pictures_are_scored_one_by_one_and_large_ones_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("semseg.training.scoring.tile_pixels", lambda *_: tiling.SMALLEST_BUDGET)
    one, learner = shapes(tmp_path, size), Background()
    found = score(learner, one, SETTINGS, lambda: False)  # type: ignore[arg-type]
    assert max(height * width for _, _, height, width in learner.sizes) <= tiling.SMALLEST_BUDGET
    assert (len(learner.sizes) > 3) == (size[0] > 70)
    assert (found.split, found.pictures) == ("test", 3)
    masks = [decode_mask(path.read_bytes()) for path in (tmp_path / "validation_annotation").iterdir()]
    share = float((np.stack(masks) == 0).mean())
    assert found.pixel_accuracy == found.iou[0] == pytest.approx(share)
    assert found.mean_iou == pytest.approx(share / 4)


def test_a_stop_ends_it(tmp_path: Path) -> None:
    learner = Background()
    with pytest.raises(Stopped):
        score(learner, shapes(tmp_path, (70, 50)), SETTINGS, lambda: len(learner.sizes) == 1)  # type: ignore[arg-type]
    assert len(learner.sizes) == 1


def test_a_learner_scores(tiny_learner: Callable[..., Any], tmp_path: Path) -> None:
    """On whole pictures of a few sizes it says what it says in validation."""
    learner, one = tiny_learner("sgd", classes=4), shapes(tmp_path, (70, 50))
    assert 0 < score(learner, one, SETTINGS, lambda: False).pixel_accuracy < 1
