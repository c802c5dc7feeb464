from __future__ import annotations

from pathlib import Path

import pytest

from semseg.engines.gluon import networks, runtime
from semseg.training.run import _announce_devices, _export_onnx


@pytest.mark.parametrize(("gpus", "used", "warnings"), [(0, 0, 0), (1, 1, 0), (4, 1, 1)])
def test_of_several_gpus_the_first_is_used_with_a_warning(
    gpus: int, used: int, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No machine with a GPU runs this: the count stands in for it."""
    monkeypatch.setattr(runtime, "devices", lambda: (None, gpus))
    with caplog.at_level("INFO", logger="semseg"):
        _announce_devices()
    assert f"nvidia-smi identified {gpus} GPUs." in caplog.messages
    assert f"Number of GPUs being used: {used}" in caplog.messages
    assert sum(record.levelname == "WARNING" for record in caplog.records) == warnings


def test_model_onnx_is_of_the_best_parameters(tmp_path: Path) -> None:
    networks.build("fcn", "resnet-50", 3, runtime.load().cpu()).save_parameters(str(tmp_path / "model_best.params"))
    _export_onnx(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model_best.params", "model.onnx"}


def test_a_failed_export_leaves_the_model_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model_algo-1").write_bytes(b"not what it should be")
    with caplog.at_level("WARNING", logger="semseg"):
        _export_onnx(tmp_path)
    assert "model.onnx was not written; the model is complete without it." in caplog.text
    assert str(tmp_path / "model_algo-1") in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["model_algo-1"]
