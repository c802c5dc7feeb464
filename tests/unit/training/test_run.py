from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gluon_models import write_model

from semseg.data.s3 import ObjectStore
from semseg.data.shapes import write_shapes
from semseg.errors import DivergedError, Stopped
from semseg.sagemaker.hyperparameters import parse
from semseg.sagemaker.paths import Paths
from semseg.training import run
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import Checkpoints
from semseg.training.inputs import check_inputs
from semseg.training.progress import Progress
from semseg.training.run import _export_onnx, _fit


def test_model_onnx_is_of_the_best_parameters(tmp_path: Path) -> None:
    write_model(tmp_path)
    _export_onnx(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model_best.params", "model.onnx"}


def test_a_failed_export_leaves_the_model_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model_algo-1").write_bytes(b"not what it should be")
    with caplog.at_level("WARNING", logger="semseg"):
        _export_onnx(tmp_path)
    assert "The model is complete, but without model.onnx. " in caplog.text
    assert str(tmp_path / "model_algo-1") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["model_algo-1"]


def test_s3_is_given_minutes_once_the_data_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a job that cannot read its data should fail at once; and at any time it stops when told."""
    write_shapes(tmp_path / "input/data", train=2, validation=1, size=(40, 40), seed=0)
    quick = {"num_classes": "4", "crop_size": "24", "mini_batch_size": "2", "use_pretrained_model": "False"}
    (tmp_path / "input/config").mkdir()
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps(quick))
    stores: list[ObjectStore] = []

    class Seen(ObjectStore):
        def __enter__(self) -> ObjectStore:
            stores.append(self)
            return super().__enter__()

    patience: list[float] = []

    def checked(inputs: Any, workers: int, stop: Any) -> Any:
        patience.append(stores[0].patience)
        return check_inputs(inputs, workers, stop)

    def begun(*_: Any) -> None:
        patience.append(stores[0].patience)
        raise Stopped

    monkeypatch.setattr(run, "ObjectStore", Seen)
    monkeypatch.setattr(run, "check_inputs", checked)
    monkeypatch.setattr(run, "build_learner", begun)
    with pytest.raises(Stopped):
        run.train(Paths(tmp_path), threading.Event())
    assert patience == [15, 300]


class Lost:
    """A learner with a weight that is no number, which its loss does not show."""

    def parameters(self) -> dict[str, Any]:
        return {"layer2.weight": np.array([1, np.nan], np.float32)}

    state = parameters


@pytest.mark.parametrize("kept", [True, False])
def test_parameters_that_are_no_numbers_end_the_job_at_the_next_checkpoint_or_epoch_and_are_not_kept(
    tmp_path: Path, kept: bool
) -> None:
    settings, _ = parse({"num_classes": "4"})
    artifact = ArtifactWriter(tmp_path / "model", settings, None, lambda _: None)
    checkpoints = Checkpoints(tmp_path / "checkpoints", {}) if kept else None
    unused: Any = None
    fit = _fit(Lost(), unused, unused, unused, settings, artifact, checkpoints, None, unused)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match=r"layer2\.weight of its network have values that are no numbers"):
        fit.checkpoint(Progress(iteration=3))
    assert not kept or not list((tmp_path / "checkpoints").iterdir())
