from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import networks, runtime
from semseg.errors import DivergedError
from semseg.sagemaker.hyperparameters import parse
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import Checkpoints
from semseg.training.progress import Progress
from semseg.training.run import _export_onnx, _fit


def test_model_onnx_is_of_the_best_parameters(tmp_path: Path) -> None:
    networks.build("fcn", "resnet-50", 3, runtime.load().cpu()).save_parameters(str(tmp_path / "model_best.params"))
    _export_onnx(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model_best.params", "model.onnx"}


def test_a_failed_export_leaves_the_model_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model_algo-1").write_bytes(b"not what it should be")
    with caplog.at_level("WARNING", logger="semseg"):
        _export_onnx(tmp_path)
    assert "The model is complete, but without model.onnx. " in caplog.text
    assert str(tmp_path / "model_algo-1") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["model_algo-1"]


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
    fit = _fit(Lost(), unused, unused, unused, settings, artifact, checkpoints, unused)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match=r"layer2\.weight have values that are no numbers"):
        fit.checkpoint(Progress(iteration=3))
    assert not kept or not list((tmp_path / "checkpoints").iterdir())
