"""The choice among engines, devices and precisions, with engines that only say what they can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from semseg.engines import choose
from semseg.engines.choose import OPENVINO, SERVING, Trainer, choose_trainer, serving_engine
from semseg.engines.protocols import Device
from semseg.errors import DeviceError, HyperparameterError, UserError
from semseg.sagemaker.hyperparameters import rules

CPU, NO_SIGN, GPU_INSTANCE = Device("cpu"), "", "ml.g5.xlarge"


@dataclass
class Fake:
    """An engine. gpus: those it finds; for_gpus: its variant; broken: why not even the CPU can be used."""

    name: str
    title: str
    installed: bool = True
    for_gpus: bool = True
    gpus: int = 0
    refusal: str = ""
    broken: str = ""
    offered: tuple[str, ...] = ("float32",)
    looked: int = 0
    trains_in_groups: bool = False

    @property
    def installation(self) -> str:
        return f"install {self.name}"

    def is_installed(self) -> bool:
        return self.installed

    def is_for_gpus(self) -> bool:
        return self.for_gpus

    def cpu(self) -> Device:
        if self.broken:
            raise DeviceError(self.broken, "Mend it.")
        return CPU

    def find_device(self, required: bool) -> Device:
        self.looked += 1
        if self.refusal or (required and not self.gpus):
            raise DeviceError(self.refusal or "No GPU can be used: it sleeps.", "Wake it.")
        return Device(f"{self.name}'s GPU", self.gpus) if self.gpus else CPU

    def precisions(self, device: Device) -> tuple[str, ...]:
        return self.offered if device.gpus else self.offered[:2]


@dataclass
class Machine:
    """The machine's engines, MXNet and PyTorch, and its device files."""

    mxnet: Fake
    torch: Fake
    files: list[Path]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without GPU, on which MXNet is installed."""
    made = Machine(Fake("mxnet", "MXNet"), Fake("torch", "PyTorch", installed=False), [])
    engines: Any = (made.mxnet, made.torch)
    monkeypatch.setattr(choose, "WITH_LEARNERS", engines)
    monkeypatch.setattr(choose, "ENGINES", (*engines, OPENVINO))
    monkeypatch.setattr(choose, "gpu_files", lambda: made.files)
    return made


def trainer(engine: str = "auto", device: str = "auto", precision: str = "float32", instance: str = NO_SIGN) -> Trainer:
    return choose_trainer(engine, device, precision, instance)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_the_hyperparameter_names_the_engines_that_train() -> None:
    expects = next(rule.expects for rule in rules() if rule.name == "_engine")
    names = ["auto", *(engine.name for engine in choose.WITH_LEARNERS)]
    assert expects == f"accepts one of the following: {', '.join(map(repr, names))}"
    assert SERVING == ("auto", "mxnet", "openvino", "torch")


@pytest.mark.parametrize(("gpus", "wanted", "used"), [(0, None, 0), (1, None, 1), (4, None, 4), (4, 3, 3)])
@pytest.mark.parametrize("groups", [True, False])
def test_all_gpus_train_or_as_many_as_wanted(
    gpus: int, wanted: int | None, used: int, groups: bool, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """In one process or in several."""
    machine.mxnet.gpus, machine.mxnet.trains_in_groups = gpus, groups
    with caplog.at_level("INFO", logger="semseg"):
        found = choose_trainer("auto", "auto", "float32", NO_SIGN, wanted)
    assert (found.gpus, found.device.gpus) == (used, used)
    assert f"nvidia-smi identified {gpus} GPUs." in caplog.messages
    assert f"Number of GPUs being used: {used}" in caplog.messages
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("engine", "hosts", "installed", "expected", "reason"),
    [
        ("auto", 1, True, "mxnet", "it is the first choice."),
        ("auto", 3, True, "torch", "the job has 3 hosts."),
        ("auto", 3, False, "mxnet", "no other engine that trains is installed."),
        ("mxnet", 3, True, "mxnet", "_engine is mxnet."),
    ],
)
def test_several_hosts_are_for_an_engine_that_trains_in_groups(
    engine: str,
    hosts: int,
    installed: bool,
    expected: str,
    reason: str,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where there is none, planning the ranks refuses them."""
    machine.torch.installed, machine.torch.trains_in_groups = installed, True
    with caplog.at_level("INFO", logger="semseg"):
        found = choose_trainer(engine, "auto", "float32", NO_SIGN, hosts=hosts)
    assert found.engine.name == expected
    assert any(f" trains in float32: {reason}" in message for message in caplog.messages)


def test_more_gpus_than_there_are_is_an_error(machine: Machine) -> None:
    machine.mxnet.gpus = 2
    with pytest.raises(DeviceError, match=r"_gpus is 3, but MXNet can use 2 on this machine\. Set it to 2, or leave"):
        choose_trainer("auto", "auto", "float32", NO_SIGN, 3)
    with pytest.raises(DeviceError, match=r"can use 0 on this machine\. Leave it out, to train on the CPU; GPUs need"):
        choose_trainer("auto", "cpu", "float32", NO_SIGN, 1)


@pytest.mark.parametrize(("engine", "title"), [("mxnet", "MXNet"), ("torch", "PyTorch")])
@pytest.mark.parametrize(
    ("wanted", "instance", "files", "for_gpus", "says"),
    [
        ("auto", GPU_INSTANCE, [], True, "The instance is ml.g5.xlarge. No GPU can be used: it sleeps. Wake it. Or"),
        ("auto", NO_SIGN, ["/dev/nvidia0"], True, "The machine has the device file /dev/nvidia0. No GPU can be used"),
        ("gpu", NO_SIGN, [], True, "_device is gpu. No GPU can be used: it sleeps."),
        ("gpu", NO_SIGN, [], False, "_device is gpu. No GPU can be used: it sleeps."),
        ("gpu", GPU_INSTANCE, [], False, "The instance is ml.g5.xlarge. No GPU can be used: it sleeps."),
    ],
)
def test_a_gpu_that_is_wanted_or_to_be_expected_and_cannot_be_used_ends_the_job(
    engine: str, title: str, wanted: str, instance: str, files: list[str], for_gpus: bool, says: str, machine: Machine
) -> None:
    for one in (machine.mxnet, machine.torch):
        one.installed, one.for_gpus = one.name == engine, for_gpus
    machine.files = [Path(name) for name in files]
    for given in ("auto", engine):
        with pytest.raises(DeviceError) as caught:
            trainer(given, wanted, instance=instance)
        assert str(caught.value).startswith(says)
        assert "_device=cpu" in caught.value.hint
        assert caught.value.exit_code == 1


@pytest.mark.parametrize(("engine", "title"), [("mxnet", "MXNet"), ("torch", "PyTorch")])
@pytest.mark.parametrize(("instance", "files"), [(GPU_INSTANCE, []), (NO_SIGN, ["/dev/nvidia0"])])
def test_an_engine_for_cpus_alone_trains_beside_a_gpu_and_warns_once(
    engine: str, title: str, instance: str, files: list[str], machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.mxnet.for_gpus = machine.torch.for_gpus = False
    machine.torch.installed = True
    machine.files = [Path(name) for name in files]
    assert trainer(engine, instance=instance).device is CPU
    (warning,) = warnings(caplog)
    assert f"{title}'s cpu variant trains on the CPU" in warning
    assert "_device=cpu" in warning
    assert (files[0] if files else instance) in warning


@pytest.mark.parametrize("for_gpus", [True, False])
def test_the_cpu_can_be_meant(machine: Machine, caplog: pytest.LogCaptureFixture, for_gpus: bool) -> None:
    """No GPU is looked for, and nothing is said of those that are there."""
    machine.mxnet.gpus, machine.mxnet.for_gpus, machine.files = 1, for_gpus, [Path("/dev/nvidia0")]
    with caplog.at_level("INFO", logger="semseg"):
        assert trainer(device="cpu", instance=GPU_INSTANCE).device is CPU
    assert machine.mxnet.looked == 0
    assert "Number of GPUs being used: 0" in caplog.messages
    assert warnings(caplog) == []


def test_a_gpu_that_the_engine_has_no_code_for_can_be_overruled(machine: Machine) -> None:
    machine.mxnet.refusal = "The GPU is one for which MXNet has no machine code."
    with pytest.raises(DeviceError, match=r"^The GPU is one for which MXNet has no machine code.* Or set _device=cpu"):
        trainer()


@pytest.mark.parametrize("wanted", ["auto", "gpu", "cpu"])
def test_where_the_engine_cannot_be_loaded_the_cpu_is_no_way_out(wanted: str, machine: Machine) -> None:
    machine.mxnet.broken = "MXNet needs a library."
    with pytest.raises(DeviceError) as caught:
        trainer(device=wanted, instance=GPU_INSTANCE)
    assert str(caught.value) == "MXNet needs a library. Mend it."


def set_up(machine: Machine, **changes: dict[str, Any]) -> None:
    for engine, values in changes.items():
        for name, value in values.items():
            setattr(getattr(machine, engine), name, value)


REFUSED = {"refusal": "MXNet has no code for it."}
CPU_ONLY, INSTALLED = {"for_gpus": False}, {"installed": True}


@pytest.mark.parametrize(
    ("engine", "device", "mxnet", "torch", "expected", "reason"),
    [
        ("auto", "auto", {}, {}, "mxnet", "MXNet trains in float32: no other engine that trains is installed."),
        ("auto", "auto", {"installed": False}, INSTALLED, "torch", "no other engine that trains is installed."),
        ("auto", "auto", {}, INSTALLED, "mxnet", "MXNet trains in float32: it is the first choice."),
        ("auto", "gpu", {"gpus": 1}, {**INSTALLED, "gpus": 1}, "mxnet", "it is the first choice."),
        ("mxnet", "auto", {}, INSTALLED, "mxnet", "MXNet trains in float32: _engine is mxnet."),
        ("torch", "auto", {}, INSTALLED, "torch", "PyTorch trains in float32: _engine is torch."),
        ("auto", "gpu", REFUSED, {**INSTALLED, "gpus": 1}, "torch", "MXNet cannot (_device is gpu. MXNet has no code"),
        (
            "auto",
            "cpu",
            {"broken": "No libcuda."},
            INSTALLED,
            "torch",
            "PyTorch trains in float32: MXNet cannot (No lib",
        ),
    ],
)
def test_the_log_says_which_engine_trains_and_why(
    engine: str,
    device: str,
    mxnet: dict[str, Any],
    torch: dict[str, Any],
    expected: str,
    reason: str,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_up(machine, mxnet=mxnet, torch=torch)
    with caplog.at_level("INFO", logger="semseg"):
        assert trainer(engine, device).engine.name == expected
    (line,) = (message for message in caplog.messages if " trains in " in message)
    assert reason in line


@pytest.mark.parametrize(
    ("mxnet", "torch", "expected"),
    [
        (REFUSED, {"gpus": 1}, "torch"),
        (CPU_ONLY, {"gpus": 1}, "torch"),
        (CPU_ONLY, CPU_ONLY, "mxnet"),
        ({"gpus": 1}, REFUSED, "mxnet"),
    ],
)
def test_beside_a_gpu_auto_takes_the_engine_that_can_use_it(
    mxnet: dict[str, Any], torch: dict[str, Any], expected: str, machine: Machine
) -> None:
    machine.files = [Path("/dev/nvidia0")]
    set_up(machine, mxnet=mxnet, torch=INSTALLED | torch)
    assert trainer().engine.name == expected


@pytest.mark.parametrize(
    ("mxnet", "torch", "says"),
    [
        (REFUSED, CPU_ONLY, "MXNet has no code for it."),
        (CPU_ONLY, {"refusal": "The driver is too old."}, "The driver is too old."),
        (REFUSED, {"refusal": "The driver is too old."}, "MXNet has no code for it."),
    ],
)
def test_beside_a_gpu_that_no_engine_can_use_the_job_ends_with_what_hinders_one_for_gpus(
    mxnet: dict[str, Any], torch: dict[str, Any], says: str, machine: Machine
) -> None:
    machine.files = [Path("/dev/nvidia0")]
    set_up(machine, mxnet=mxnet, torch=INSTALLED | torch)
    with pytest.raises(DeviceError, match=f"/dev/nvidia0. {says}"):
        trainer()


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("torch", "_engine is torch, but PyTorch is not installed. Install it: install torch."),
        (
            "auto",
            "_engine is auto, but neither MXNet nor PyTorch is installed. Install it: install mxnet; or install torch.",
        ),
    ],
)
def test_an_engine_that_is_not_installed_is_an_error_with_the_way_to_install_it(
    engine: str, says: str, machine: Machine
) -> None:
    machine.mxnet.installed = False
    with pytest.raises(UserError) as caught:
        trainer(engine)
    assert str(caught.value) == says
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("wanted", "gpus", "offered", "expected"),
    [
        ("float32", 0, ("float32",), "float32"),
        ("auto", 0, ("float32",), "float32"),
        ("auto", 0, ("float32", "bfloat16"), "float32"),
        ("auto", 0, ("bfloat16", "float32"), "bfloat16"),
        ("auto", 1, ("float32", "float16"), "float32"),
        ("auto", 1, ("bfloat16", "float32", "float16"), "bfloat16"),
        ("bfloat16", 0, ("float32", "bfloat16"), "bfloat16"),
        ("float16", 1, ("float32", "bfloat16", "float16"), "float16"),
    ],
)
def test_auto_is_the_first_precision_that_is_offered(
    wanted: str, gpus: int, offered: tuple[str, ...], expected: str, machine: Machine
) -> None:
    machine.mxnet.gpus, machine.mxnet.offered = gpus, offered
    assert trainer(precision=wanted).precision == expected


@pytest.mark.parametrize(
    ("wanted", "offered", "says"),
    [
        ("bfloat16", ("float32",), "precision_dtype is bfloat16, but MXNet computes on this device only in float32."),
        ("float16", ("float32", "bfloat16"), "only in float32 or bfloat16. Set it to one of these, or to auto."),
    ],
)
def test_a_precision_that_is_not_offered_is_an_error_that_names_those_that_are(
    wanted: str, offered: tuple[str, ...], says: str, machine: Machine
) -> None:
    machine.mxnet.offered = offered
    with pytest.raises(HyperparameterError) as caught:
        trainer(precision=wanted)
    assert says in str(caught.value)
    assert "_engine=torch" in caught.value.hint


UNUSED = "Serving on the CPU: MXNet's cpu variant, which is installed, does not use /dev/nvidia0."


@pytest.mark.parametrize(
    ("files", "mxnet", "torch", "expected", "said"),
    [
        ([], {"gpus": 1}, {}, "openvino", []),
        (["/dev/nvidia0"], CPU_ONLY, {}, "openvino", [UNUSED]),
        (["/dev/nvidia0"], {"gpus": 1}, {}, "mxnet", []),
        (["/dev/nvidia0"], {"gpus": 2}, {}, "mxnet", ["2 GPUs found; the first is used."]),
        (["/dev/nvidia0"], {}, {}, "openvino", ["Serving on the CPU. No GPU can be used: it sleeps. Wake it."]),
        (["/dev/nvidia0"], {"gpus": 1}, {**INSTALLED, "gpus": 1}, "mxnet", []),
        (["/dev/nvidia0"], {"installed": False}, {**INSTALLED, "gpus": 1}, "torch", []),
        (["/dev/nvidia0"], REFUSED, {**INSTALLED, "gpus": 1}, "torch", []),
        (
            ["/dev/nvidia0"],
            CPU_ONLY,
            {**INSTALLED, "refusal": "It is old."},
            "openvino",
            [UNUSED, "Serving on the CPU. It is old. Wake it."],
        ),
        (
            ["/dev/nvidia0"],
            {"installed": False},
            {},
            "openvino",
            ["Serving on the CPU: no engine that would use /dev/nvidia0 is installed."],
        ),
    ],
)
def test_an_engine_for_gpus_serves_where_it_finds_one_and_openvino_elsewhere(
    files: list[str],
    mxnet: dict[str, Any],
    torch: dict[str, Any],
    expected: str,
    said: list[str],
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_up(machine, mxnet=mxnet, torch=torch)
    machine.files = [Path(name) for name in files]
    engine, device = serving_engine("auto", "auto")
    assert engine.name == expected
    assert bool(device.gpus) == (expected != "openvino")
    assert caplog.messages == said


NO_BF16, NO_INT8 = (
    [f"Serving on the CPU: {title} does not compute in {precision} on this GPU." for title in ("MXNet", "PyTorch")]
    for precision in ("bf16", "int8")
)
AMPERE = ("bfloat16", "float32", "float16")


@pytest.mark.parametrize(
    ("precision", "torch", "expected", "said"),
    [
        ("f32", {"offered": AMPERE}, "mxnet", []),
        ("bf16", {"offered": AMPERE}, "torch", []),
        ("bf16", {"offered": ("float32", "float16")}, "openvino", NO_BF16),
        ("bf16", {"installed": False}, "openvino", NO_BF16[:1]),
        ("int8", {"offered": AMPERE}, "openvino", NO_INT8),
    ],
)
def test_auto_serves_with_an_engine_that_computes_in_the_precision(
    precision: str,
    torch: dict[str, Any],
    expected: str,
    said: list[str],
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.files = [Path("/dev/nvidia0")]
    set_up(machine, mxnet={"gpus": 1}, torch=INSTALLED | {"gpus": 1} | torch)
    engine, device = serving_engine("auto", precision)
    assert (engine.name, bool(device.gpus)) == (expected, expected != "openvino")
    assert caplog.messages == said


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_named_engine_serves_where_it_will_refuse_the_precision(precision: str, machine: Machine) -> None:
    """With an error that says what it computes in."""
    machine.files, machine.mxnet.gpus = [Path("/dev/nvidia0")], 1
    assert serving_engine("mxnet", precision)[0].name == "mxnet"


@pytest.mark.parametrize("wanted", ["mxnet", "torch", "openvino"])
def test_the_engine_that_serves_can_be_named(wanted: str, machine: Machine) -> None:
    machine.torch.installed = True
    engine, device = serving_engine(wanted, "auto")
    assert (engine.name, device.gpus) == (wanted, 0)


def test_a_named_engine_serves_on_the_cpu_with_the_reason_where_it_cannot_use_the_gpu(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.files, machine.torch.installed = [Path("/dev/nvidia0")], True
    engine, device = serving_engine("torch", "auto")
    assert (engine.name, device) == ("torch", CPU)
    assert caplog.messages == ["Serving on the CPU. No GPU can be used: it sleeps. Wake it."]


def test_a_named_engine_that_is_not_installed_does_not_serve(machine: Machine) -> None:
    with pytest.raises(
        UserError, match=r"^SEMSEG_BACKEND is torch, but PyTorch is not installed\. Install it: install"
    ):
        serving_engine("torch", "auto")


def test_the_cpu_is_used_without_a_look_at_the_gpu_where_it_is_asked_for(machine: Machine) -> None:
    machine.files, machine.mxnet.gpus = [Path("/dev/nvidia0")], 1
    assert serving_engine("auto", "auto", "cpu")[0].name == "openvino"
    engine, device = serving_engine("mxnet", "auto", "cpu")
    assert (engine.name, device, machine.mxnet.looked) == ("mxnet", CPU, 0)


def test_a_gpu_that_is_asked_for_is_used_or_the_error_says_why_not(machine: Machine) -> None:
    set_up(machine, mxnet={"refusal": "It is too new.", "gpus": 1}, torch={"installed": True, "gpus": 1})
    engine, device = serving_engine("auto", "auto", "gpu")
    assert (engine.name, device.gpus) == ("torch", 1)
    machine.mxnet.refusal, machine.torch.offered = "", ("float32", "bfloat16")
    assert [serving_engine("auto", precision, "gpu")[0].name for precision in ("f32", "bf16")] == ["mxnet", "torch"]
    machine.mxnet.refusal = "It is too new."
    machine.torch.refusal, machine.mxnet.for_gpus = "It is too old.", False
    with pytest.raises(DeviceError, match=r"^It is too old\."):
        serving_engine("auto", "auto", "gpu")
    with pytest.raises(DeviceError, match=r"^It is too new\."):
        serving_engine("mxnet", "auto", "gpu")
    with pytest.raises(DeviceError, match=r"^OpenVINO is used on CPUs only\."):
        serving_engine("openvino", "auto", "gpu")
