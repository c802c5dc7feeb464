from __future__ import annotations

from pathlib import Path

import pytest

from semseg.training.finish import export_onnx


def test_model_onnx_is_of_the_best_parameters(small_dir: Path) -> None:
    export_onnx(small_dir)
    assert {path.name for path in small_dir.iterdir()} == {"model_best.params", "model.onnx"}


def test_a_failed_export_leaves_the_model_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model_algo-1").write_bytes(b"not what it should be")
    with caplog.at_level("WARNING", logger="semseg"):
        export_onnx(tmp_path)
    assert "The model is complete, but without model.onnx. " in caplog.text
    assert str(tmp_path / "model_algo-1") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["model_algo-1"]
