from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.data.report import Report
from semseg.data.tally import Finding, Tally
from semseg.engines.gluon import cuda, runtime
from semseg.engines.gluon import learner as gluon
from semseg.engines.gluon.losses import BalancedLoss
from semseg.errors import DeviceError
from semseg.sagemaker.channels import Hosts
from semseg.sagemaker.hyperparameters import parse
from semseg.training.parts import balance, build_learner, choose_device

FOUND = "the device that was found"
NO_SIGN, GPU_INSTANCE = Hosts("algo-1", "ml.c5.xlarge"), Hosts("algo-1", "ml.g5.xlarge")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this a machine with so many GPUs that can be used, device files, and one of the two variants of MXNet."""

    def make(gpus: int, files: Sequence[str] = (), gpu_variant: bool = True) -> None:
        def devices(required: bool = False) -> tuple[str, int]:
            if required and not gpus:
                raise DeviceError("No GPU can be used: it sleeps.", "Wake it.")
            return FOUND, gpus

        monkeypatch.setattr(runtime, "devices", devices)
        monkeypatch.setattr(cuda, "is_installed", lambda: gpu_variant)
        monkeypatch.setattr(cuda, "device_files", lambda: [Path(name) for name in files])

    return make


@pytest.mark.parametrize(("gpus", "used", "warnings"), [(0, 0, 0), (1, 1, 0), (4, 1, 1)])
def test_of_several_gpus_the_first_is_used_with_a_warning(
    gpus: int, used: int, warnings: int, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """No machine with a GPU runs this: the count stands in for it."""
    machine(gpus)
    with caplog.at_level("INFO", logger="semseg"):
        assert choose_device("auto", NO_SIGN) is FOUND
    assert f"nvidia-smi identified {gpus} GPUs." in caplog.messages
    assert f"Number of GPUs being used: {used}" in caplog.messages
    assert sum(record.levelname == "WARNING" for record in caplog.records) == warnings


@pytest.mark.parametrize(
    ("wanted", "hosts", "files", "gpu_variant", "says"),
    [
        (
            "auto",
            GPU_INSTANCE,
            [],
            True,
            "The instance is ml.g5.xlarge. No GPU can be used: it sleeps. Wake it. Or set",
        ),
        ("auto", NO_SIGN, ["/dev/nvidia0"], True, "The machine has the device file /dev/nvidia0. No GPU can be used"),
        ("gpu", NO_SIGN, [], True, "_device is gpu. No GPU can be used: it sleeps."),
        ("gpu", NO_SIGN, [], False, "_device is gpu. No GPU can be used: it sleeps."),
        ("gpu", GPU_INSTANCE, [], False, "The instance is ml.g5.xlarge. No GPU can be used: it sleeps."),
    ],
)
def test_a_gpu_that_is_wanted_or_to_be_expected_and_cannot_be_used_ends_the_job(
    wanted: str, hosts: Hosts, files: list[str], gpu_variant: bool, says: str, machine: Machine
) -> None:
    machine(0, files, gpu_variant)
    with pytest.raises(DeviceError) as caught:
        choose_device(wanted, hosts)
    assert str(caught.value).startswith(says)
    assert "_device=cpu" in caught.value.hint
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("hosts", "files"), [(GPU_INSTANCE, []), (NO_SIGN, ["/dev/nvidia0"])])
def test_the_cpu_variant_trains_beside_a_gpu_and_warns_once(
    hosts: Hosts, files: list[str], machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(0, files, gpu_variant=False)
    assert choose_device("auto", hosts) is FOUND
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "MXNet's cpu variant trains on the CPU" in warning
    assert "_device=cpu" in warning
    assert str(files[0] if files else hosts.instance_type) in warning


@pytest.mark.parametrize("gpu_variant", [True, False])
def test_the_cpu_can_be_meant(machine: Machine, caplog: pytest.LogCaptureFixture, gpu_variant: bool) -> None:
    """No GPU is looked for, and nothing is said of those that are there."""
    machine(1, ["/dev/nvidia0"], gpu_variant)
    with caplog.at_level("INFO", logger="semseg"):
        assert choose_device("cpu", GPU_INSTANCE).device_type == "cpu"
    assert "Number of GPUs being used: 0" in caplog.messages
    assert all(record.levelname == "INFO" for record in caplog.records)


def test_a_gpu_that_mxnet_has_no_code_for_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(required: bool = False) -> None:
        raise cuda.no_code()

    monkeypatch.setattr(runtime, "devices", refuse)
    with pytest.raises(DeviceError, match=r"The GPU is one for which MXNet has no machine code.* Or set _device=cpu"):
        choose_device("auto", NO_SIGN)


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
    build_learner(settings, None, None, (0.5, 1.0, 2.0), FOUND)
    optimizer = gluon.Optimizer("nag", 0.11, 0.12, 0.13, 0.14, 0.15)
    assert built.pop("positional") == ("psp", "resnet-101", 3, optimizer)
    criterion = built.pop("criterion")
    assert built == {"aux_loss": False, "aux_weight": 0.16, "use_pretrained": True, "seed": 17, "device": FOUND}
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
