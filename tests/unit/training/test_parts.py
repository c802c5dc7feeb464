from __future__ import annotations

import numpy as np
import pytest

from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.data.report import Report
from semseg.data.tally import Finding, Tally
from semseg.engines.gluon import runtime
from semseg.errors import HyperparameterError
from semseg.sagemaker.hyperparameters import parse
from semseg.training.parts import announce_devices, balance


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


def report(name: str) -> Report:
    """Of a split with three pixels of class 0 to one of class 1."""
    tally = Tally(Listing(name, (), ()), parse_label_map({"scale": 1}, 2, "map.json"))
    tally.add(Finding(values=np.bincount([0, 0, 0, 1], minlength=256)))
    return Report((tally.split(),), (), ())


def test_the_weights_of_classes_are_none_given_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    def weights(given: str) -> tuple[float, ...] | None:
        settings, _ = parse({"num_classes": "2", "_class_weights": given})
        return balance(settings, report("train"))

    assert weights("none") is None
    assert weights("0.5,25") == (0.5, 25.0)
    with caplog.at_level("INFO", logger="semseg"):
        assert weights("auto") == pytest.approx((0.5 / 0.75, 0.5 / 0.25))
    assert caplog.messages == ["Class weights: 0.6667, 2"]


def test_pixels_that_come_through_a_pipe_cannot_be_counted() -> None:
    settings, _ = parse({"num_classes": "2", "_class_weights": "auto"})
    with pytest.raises(HyperparameterError, match="_class_weights=auto needs the channel train in File mode"):
        balance(settings, report("validation"))
