"""A model that one engine has trained, served by every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from untrained import initial_arrays, specification

from semseg.codecs.params import write_params
from semseg.data.shapes import CLASSES, draw
from semseg.engines.choose import MXNET, TORCH
from semseg.engines.protocols import Engine
from semseg.inference.load import load_predictor
from semseg.types import Batch

STEPS, RATE = 4, 0.01


def shapes(size: tuple[int, int], count: int, seed: int) -> Batch:
    """Images and masks, as `semseg demo` draws them, of a size (width, height)."""
    rng = np.random.default_rng(seed)
    images, masks = zip(*(draw(size, rng) for _ in range(count)), strict=True)
    return Batch(np.stack(images), np.stack(masks))


@pytest.fixture(scope="module", params=[MXNET, TORCH], ids=lambda engine: engine.name)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory of a short training by an engine."""
    engine: Engine = request.param
    arrays = initial_arrays("fcn", "resnet-50", len(CLASSES))
    learner = engine.learner(specification(num_classes=len(CLASSES)), arrays, "initial values", engine.cpu())
    for step in range(STEPS):
        float(learner.train_step(shapes((64, 64), 2, seed=step), RATE, seed=step))
    directory = tmp_path_factory.mktemp(engine.name)
    write_params(directory / "model_best.params", learner.parameters())
    return directory


def test_every_engine_serves_what_either_has_trained(directory: Path) -> None:
    """In f32; sizes that no side of the network's stride divides are among them."""
    images = [shapes(size, 1, seed=9).images[0] for size in ((128, 96), (99, 77), (41, 160))]
    found = {
        name: [load_predictor(directory, name, "f32").predictor.predict(image) for image in images]
        for name in ("mxnet", "torch", "openvino")
    }
    for prediction in zip(*found.values(), strict=True):
        labels = [one.labels() for one in prediction]
        assert len(np.unique(labels[0])) > 1
        for other, its_labels in zip(prediction[1:], labels[1:], strict=True):
            assert (its_labels == labels[0]).mean() >= 0.9999
            np.testing.assert_allclose(other.probabilities(), prediction[0].probabilities(), atol=1e-4)
