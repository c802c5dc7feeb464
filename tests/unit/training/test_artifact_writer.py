from __future__ import annotations

from pathlib import Path

import pytest

from semseg.sagemaker import hyperparameters
from semseg.training.artifact_writer import ArtifactWriter


def new(path: Path) -> None:
    path.write_text("new")


def test_what_an_earlier_run_left_goes_when_there_is_a_new_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old model.onnx is not of the new parameters, and hyperparams.json would contradict the old ones."""
    old = ["model_best.params", "model_algo-1", "model.onnx", "model_int8.onnx", "classes.json", "notes.txt"]
    for name in old:
        (tmp_path / name).write_text("old")
    settings, _ = hyperparameters.parse({"num_classes": "3"})
    artifact = ArtifactWriter(tmp_path, settings, None, lambda event: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(old)
    with caplog.at_level("WARNING", logger="semseg"):
        artifact.save("model_best.params", new)
    assert {path.name: path.read_text()[:3] for path in tmp_path.iterdir() if path.suffix != ".json"} == {
        "model_best.params": "new",
        "notes.txt": "old",
    }
    assert f"Removing {tmp_path / 'model.onnx'}, left by an earlier run." in caplog.messages
