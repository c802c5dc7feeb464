from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.codecs.masks import decode_mask
from semseg.codecs.params import write_params
from semseg.data.s3 import ObjectStore
from semseg.data.shapes import write_shapes
from semseg.engines.protocols import Learner
from semseg.inference import tiling
from semseg.sagemaker.channels import Channels, Split
from semseg.sagemaker.hyperparameters import parse
from semseg.training.inputs import Input, open_test
from semseg.training.scoring import score
from semseg.types import Arrays, Float32

SETTINGS, _ = parse({"num_classes": "4", "crop_size": "24", "validation_mini_batch_size": "16"})


def shapes(directory: Path, size: tuple[int, int]) -> Input:
    """A test split of three images."""
    write_shapes(directory, train=1, validation=3, size=size, seed=0)
    split = Split("test", directory / "validation", directory / "validation_annotation", None, False)
    with ObjectStore() as store:
        found = open_test(Channels(split, split, split, None, None), 4, store)
    assert found
    return found


class Background(OnHost):
    """A learner that predicts class 0 everywhere, and records its calls."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.loaded: list[Any] = []
        self.on_gpu: int | None = None

    def load(self, arrays: Arrays, origin: str) -> None:
        self.loaded.append((list(arrays), origin))

    def device_memory(self) -> int | None:
        return self.on_gpu

    def logits(self, images: Float32) -> Float32:
        self.sizes.append(images.shape)
        height, width = images.shape[2:]
        logits = np.zeros((1, 4, -(-height // 8), -(-width // 8)), np.float32)
        logits[:, 0] = 1
        return logits


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """A parameter file."""
    path = tmp_path / "model_best.params"
    write_params(path, {"w": np.ones(3, np.float32)})
    return path


def scores(
    learner: Any, best: Path, validation: Input, test: Input | None, stop: Callable[[], bool] = lambda: False
) -> list[Any]:
    events: list[Any] = []
    score(lambda: learner, best, (validation, test), SETTINGS, stop, events.append)
    return events


@pytest.mark.parametrize("size", [(70, 50), (600, 400)])
def test_whole_images_are_scored_one_by_one_and_large_ones_in_tiles(
    tmp_path: Path, best: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("semseg.training.scoring.free_memory", lambda: 0)
    learner = Background()
    (found,) = scores(learner, best, shapes(tmp_path, size), None)
    assert learner.loaded == [(["w"], str(best))]
    assert max(height * width for _, _, height, width in learner.sizes) <= tiling.SMALLEST_BUDGET
    assert (len(learner.sizes) > 3) == (size[0] > 70)
    assert (found.split, found.images) == ("test", 3)
    masks = [decode_mask(path.read_bytes()) for path in (tmp_path / "validation_annotation").iterdir()]
    share = float((np.stack(masks) == 0).mean())
    assert found.pixel_accuracy == found.iou[0] == pytest.approx(share)
    assert found.mean_iou == pytest.approx(share / 4)


def test_on_a_gpu_its_memory_decides_on_the_tiles(tmp_path: Path, best: Path) -> None:
    learner, one = Background(), shapes(tmp_path, (600, 400))
    learner.on_gpu = 0
    scores(learner, best, one, None)
    assert max(height * width for _, _, height, width in learner.sizes) <= tiling.SMALLEST_BUDGET


def test_what_comes_through_a_pipe_is_left_out(tmp_path: Path, best: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = shapes(tmp_path, (70, 50))
    caplog.clear()
    with caplog.at_level("INFO", logger="semseg"):
        assert scores(Background(), best, dataclasses.replace(one, listing=None), None) == []
        assert caplog.messages == ["Test data is not provided."]
        assert len(scores(Background(), best, dataclasses.replace(one, listing=None), one)) == 1
    assert caplog.messages[1:] == ["Segmenting the 3 whole images of test."]


def test_a_stop_ends_it(tmp_path: Path, best: Path, caplog: pytest.LogCaptureFixture) -> None:
    learner, one = Background(), shapes(tmp_path, (70, 50))
    caplog.clear()
    assert scores(learner, best, one, one, lambda: len(learner.sizes) == 1) == []
    assert len(learner.sizes) == 1
    assert scores(learner, best, one, one, lambda: True) == []
    assert len(learner.loaded) == 1
    assert caplog.messages == ["Stopping on request, without the scores on whole images."] * 2


def test_what_fails_here_is_a_warning(tmp_path: Path, best: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = shapes(tmp_path, (70, 50))
    caplog.clear()
    (tmp_path / "validation/0001.jpg").unlink()
    assert scores(Background(), best, one, one) == []
    (warning,) = caplog.messages
    assert warning.startswith("The model is complete, but without the scores on whole images. validation/0001.jpg")


def test_a_learner_scores(tiny_learner: Callable[..., Any], tmp_path: Path) -> None:
    learner, one = tiny_learner("sgd", classes=4), shapes(tmp_path, (70, 50))
    write_params(tmp_path / "best", learner.parameters())
    (found,) = scores(learner, tmp_path / "best", one, None)
    assert 0 < found.pixel_accuracy < 1


def test_a_model_is_scored_at_the_size_at_which_it_will_be_served(tmp_path: Path, best: Path) -> None:
    settings, _ = parse({"num_classes": "4", "base_size": "20", "_serving_scale": "base"})
    learner, one = Background(), shapes(tmp_path, (70, 50))
    events: list[Any] = []
    score(lambda: cast(Learner, learner), best, (one, None), settings, lambda: False, events.append)
    assert learner.sizes == [(1, 3, 14, 20)] * 3
    assert events[0].images == 3
