"""What version 0.1.0 has written is read: `tests/stored` has an artifact and a checkpoint of it.

Their arrays are as large as those of any FCN on ResNet-50, and all 0 but for a bias, so that xz packs them well.
"""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
from untrained import initial_arrays, specification

from semseg.codecs.params import read_params
from semseg.engines.choose import MXNET, TORCH
from semseg.engines.protocols import Engine
from semseg.inference.load import load_predictor
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated
from semseg.sagemaker.hyperparameters import parse
from semseg.training.checkpoints import Checkpoints
from semseg.training.progress import Progress
from semseg.types import Batch

STORED = Path(__file__).parents[1] / "stored"
NEEDS_MXNET, NEEDS_TORCH = pytest.mark.needs("mxnet"), pytest.mark.needs("torch")
NAMES = ("sky", "scratch", "earth")


def unpacked(name: str, directory: Path) -> Path:
    with tarfile.open(STORED / name, "r:xz") as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.mark.parametrize("backend", ["openvino", pytest.param("mxnet", marks=NEEDS_MXNET)])
def test_its_artifact_is_served(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = unpacked("artifact-0.1.0.tar.xz", tmp_path)
    with caplog.at_level(logging.INFO):
        model = load_predictor(directory, backend, "f32")
    read = {"openvino": "model.onnx", "mxnet": "model_best.params"}[backend]
    assert f"Loading weights from {directory / read}" in caplog.messages
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    found = model.description
    assert (found.network.name, found.backbone.name, found.num_classes) == ("fcn", "resnet-50", 3)
    assert (found.crop_size, found.classes.names) == (64, NAMES)
    assert (model.predictor.predict(np.zeros((20, 30, 3), np.uint8)).labels() == 1).all()


@pytest.mark.parametrize("engine", [pytest.param(MXNET, marks=NEEDS_MXNET), pytest.param(TORCH, marks=NEEDS_TORCH)])
def test_a_training_goes_on_from_its_checkpoint(engine: Engine, tmp_path: Path) -> None:
    settings, _ = parse({"num_classes": "3", "use_pretrained_model": "False", "crop_size": "64"})
    directory = unpacked("checkpoints-0.1.0.tar.xz", tmp_path)
    checkpoint = Checkpoints(directory, settings.as_strings() | {"the number of train's pairs": "2"}).newest()
    assert checkpoint
    validated = EpochValidated(0, 1.25, 0.5, 0.25, 0.75, [0.75, None, None], 8.0)
    ended = EpochEnded(EpochTrained(0, 2, 1.5, 0.001, 9.0, 0.25), validated, 10, True)
    assert checkpoint.progress == Progress((ended,), iteration=1, samples=1, loss=1.5, seconds=2.5, waiting=0.5)
    learner = engine.learner(specification("fcn", 3), initial_arrays("fcn", "resnet-50", 3), "a test", engine.cpu())
    learner.restore(checkpoint.state, str(checkpoint.path))
    np.testing.assert_array_equal(learner.parameters()["head.block.4.bias"], [0, 2, 0])
    learner.train_step(Batch(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 64, 64), np.uint8)), 0.001, 0)
    assert learner.state()["optimizer/updates"] == 4
    checkpoint.write_best(tmp_path / "best")
    np.testing.assert_array_equal(read_params(tmp_path / "best")["head.block.4.bias"], [0, 1, 0])
