from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from semseg.engines import choose
from semseg.engines.choose import MXNET, OPENVINO, serving_engine, training_device, training_engine
from semseg.engines.gluon import cuda, runtime
from semseg.engines.protocols import Engine
from semseg.errors import DeviceError

FOUND = "the device that was found"
NO_SIGN, GPU_INSTANCE = "", "ml.g5.xlarge"
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this a machine with so many GPUs that can be used, device files, and one of the two variants of MXNet."""

    runtime.load()  # as the variant that is installed

    def make(gpus: int, files: Sequence[str] = (), gpu_variant: bool = True) -> None:
        def devices(required: bool = False) -> tuple[str, int]:
            if required and not gpus:
                raise DeviceError("No GPU can be used: it sleeps.", "Wake it.")
            return FOUND, gpus

        monkeypatch.setattr(runtime, "devices", devices)
        monkeypatch.setattr(cuda, "is_installed", lambda: gpu_variant)
        monkeypatch.setattr(choose, "gpu_files", lambda: [Path(name) for name in files])

    return make


@pytest.mark.parametrize(("gpus", "used", "warnings"), [(0, 0, 0), (1, 1, 0), (4, 1, 1)])
def test_of_several_gpus_the_first_is_used_with_a_warning(
    gpus: int, used: int, warnings: int, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """No machine with a GPU runs this: the count stands in for it."""
    machine(gpus)
    with caplog.at_level("INFO", logger="semseg"):
        assert training_device(training_engine(), "auto", NO_SIGN).handle is FOUND
    assert f"nvidia-smi identified {gpus} GPUs." in caplog.messages
    assert f"Number of GPUs being used: {used}" in caplog.messages
    assert sum(record.levelname == "WARNING" for record in caplog.records) == warnings


@pytest.mark.parametrize(
    ("wanted", "instance", "files", "gpu_variant", "says"),
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
    wanted: str, instance: str, files: list[str], gpu_variant: bool, says: str, machine: Machine
) -> None:
    machine(0, files, gpu_variant)
    with pytest.raises(DeviceError) as caught:
        training_device(training_engine(), wanted, instance)
    assert str(caught.value).startswith(says)
    assert "_device=cpu" in caught.value.hint
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("instance", "files"), [(GPU_INSTANCE, []), (NO_SIGN, ["/dev/nvidia0"])])
def test_the_cpu_variant_trains_beside_a_gpu_and_warns_once(
    instance: str, files: list[str], machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(0, files, gpu_variant=False)
    assert training_device(training_engine(), "auto", instance).handle is FOUND
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "MXNet's cpu variant trains on the CPU" in warning
    assert "_device=cpu" in warning
    assert (files[0] if files else instance) in warning


@pytest.mark.parametrize("gpu_variant", [True, False])
def test_the_cpu_can_be_meant(machine: Machine, caplog: pytest.LogCaptureFixture, gpu_variant: bool) -> None:
    """No GPU is looked for, and nothing is said of those that are there."""
    machine(1, ["/dev/nvidia0"], gpu_variant)
    with caplog.at_level("INFO", logger="semseg"):
        assert training_device(training_engine(), "cpu", GPU_INSTANCE).handle.device_type == "cpu"
    assert "Number of GPUs being used: 0" in caplog.messages
    assert all(record.levelname == "INFO" for record in caplog.records)


def test_a_gpu_that_mxnet_has_no_code_for_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(required: bool = False) -> None:
        raise cuda.no_code()

    monkeypatch.setattr(runtime, "devices", refuse)
    with pytest.raises(DeviceError, match=r"The GPU is one for which MXNet has no machine code.* Or set _device=cpu"):
        training_device(training_engine(), "auto", NO_SIGN)


@pytest.mark.parametrize("wanted", ["auto", "gpu", "cpu"])
def test_where_mxnet_cannot_be_loaded_the_cpu_is_no_way_out(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise DeviceError("MXNet needs a library.", "Install it.")

    monkeypatch.setattr(runtime, "load", refuse)
    with pytest.raises(DeviceError) as caught:
        training_device(training_engine(), wanted, GPU_INSTANCE)
    assert str(caught.value) == "MXNet needs a library. Install it."


@pytest.mark.parametrize(
    ("files", "gpus", "expected", "warnings"),
    [
        ([], 1, OPENVINO, []),
        (
            ["/dev/nvidia0"],
            0,
            OPENVINO,
            ["Serving on the CPU: MXNet's cpu variant, which is installed, does not use /dev/nvidia0."],
        ),
        (["/dev/nvidia0"], 1, MXNET, []),
        (["/dev/nvidia0"], 2, MXNET, ["2 GPUs found; the first is used."]),
    ],
)
def test_mxnet_serves_where_it_finds_a_gpu(
    files: list[str],
    gpus: int,
    expected: Engine,
    warnings: list[str],
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(gpus, files, gpu_variant=False)
    engine, device = serving_engine("auto")
    assert (engine, device.gpus) == (expected, gpus if expected is MXNET else 0)
    assert caplog.messages == warnings


@pytest.mark.parametrize(("wanted", "expected"), [("auto", OPENVINO), ("mxnet", MXNET)])
def test_where_no_gpu_can_be_used_the_cpu_serves_and_a_warning_says_why(
    wanted: str, expected: Engine, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(0, ["/dev/nvidia0"])
    engine, device = serving_engine(wanted)
    assert (engine, device.gpus) == (expected, 0)
    assert caplog.messages == ["Serving on the CPU. No GPU can be used: it sleeps. Wake it."]


def test_a_gpu_that_mxnet_has_no_code_for_is_named_and_the_cpu_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise cuda.no_code("NVIDIA H100 has compute capability 9.0, for which")

    monkeypatch.setattr(choose, "gpu_files", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 1)
    monkeypatch.setattr(cuda, "driver", lambda: None)
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", refuse)
    assert serving_engine("auto")[0] is OPENVINO
    assert "Serving on the CPU. The GPU NVIDIA H100 has compute capability 9.0" in caplog.text


@pytest.mark.parametrize(("wanted", "expected"), [("mxnet", MXNET), ("openvino", OPENVINO), ("auto", OPENVINO)])
def test_the_engine_that_serves_can_be_named(wanted: str, expected: Engine, machine: Machine) -> None:
    machine(0)
    assert serving_engine(wanted)[0] is expected
