from __future__ import annotations

import pytest

from semseg.engines.gluon import runtime
from semseg.training.parts import announce_devices


@pytest.mark.parametrize(("gpus", "used", "warnings"), [(0, 0, 0), (1, 1, 0), (4, 1, 1)])
def test_of_several_gpus_the_first_is_used_with_a_warning(
    gpus: int, used: int, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No machine with a GPU runs this: the count stands in for it."""
    monkeypatch.setattr(runtime, "devices", lambda: (None, gpus))
    with caplog.at_level("INFO", logger="semseg"):
        announce_devices()
    assert f"nvidia-smi identified {gpus} GPUs." in caplog.messages
    assert f"Number of GPUs being used: {used}" in caplog.messages
    assert sum(record.levelname == "WARNING" for record in caplog.records) == warnings
