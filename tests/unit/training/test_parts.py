from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.data.report import Report
from semseg.data.tally import Finding, Tally
from semseg.engines.gluon import learner as gluon
from semseg.engines.gluon import runtime
from semseg.engines.gluon.losses import BalancedLoss
from semseg.sagemaker.hyperparameters import parse
from semseg.training.parts import announce_devices, balance, build_learner


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


def test_a_learner_is_built_as_the_hyperparameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a value of its own, so that none can stand for another."""
    built: dict[str, Any] = {}

    def build(*positional: Any, **named: Any) -> None:
        built.update(named, positional=positional)

    monkeypatch.setattr(gluon, "build_learner", build)
    given = {"algorithm": "psp", "backbone": "resnet-101", "num_classes": "3", "optimizer": "nag"}
    rates = {"momentum": "0.11", "weight_decay": "0.12", "gamma1": "0.13", "gamma2": "0.14", "_gradient_clip": "0.15"}
    settings, _ = parse(
        {**given, **rates, "_aux_weight": "0.16", "_aux_loss": "False", "_seed": "17", "_loss": "focal"}
    )
    build_learner(settings, None, None, (0.5, 1.0, 2.0))
    optimizer = gluon.Optimizer("nag", 0.11, 0.12, 0.13, 0.14, 0.15)
    assert built.pop("positional") == ("psp", "resnet-101", 3, optimizer)
    criterion = built.pop("criterion")
    assert built == {"aux_loss": False, "aux_weight": 0.16, "use_pretrained": True, "seed": 17}
    assert vars(criterion).keys() == vars(BalancedLoss("focal", None, 3, 0.16)).keys()
    expected = BalancedLoss("focal", (0.5, 1.0, 2.0), 3, 0.16)
    assert all(np.array_equal(value, vars(expected)[name]) for name, value in vars(criterion).items())


@pytest.mark.parametrize(
    ("loss", "weights", "balanced"),
    [("cross_entropy", None, False), ("cross_entropy", (1.0, 2.0), True), ("dice+ce", None, True)],
)
def test_the_criterion_is_gluoncvs_unless_something_else_is_asked_for(
    loss: str, weights: tuple[float, ...] | None, balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(gluon, "build_learner", lambda *_, criterion, **__: found.append(criterion))
    settings, _ = parse({"num_classes": "2", "_loss": loss})
    build_learner(settings, None, None, weights)
    assert [type(criterion) for criterion in found] == [BalancedLoss if balanced else type(None)]
