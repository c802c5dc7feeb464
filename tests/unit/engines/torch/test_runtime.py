"""The devices of PyTorch. No machine with a GPU runs this: its answers are given in torch.cuda's place."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from readme import README

from semseg.engines import cuda_driver
from semseg.engines.choose import choose_trainer
from semseg.engines.torch import runtime
from semseg.errors import DeviceError
from semseg.machine import usable_cores
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.hyperparameters import parse
from semseg.training.ranks import Ranks, plan_ranks

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
"""The architectures of PyTorch 2.13's wheels for x86-64 (PYTORCH_RELEASES_CODE_CC in torch/cuda/__init__.py)."""


@pytest.mark.parametrize(("given", "expected"), [(None, usable_cores()), ("1", 1)])
def test_pytorch_is_loaded_when_it_is_needed_with_its_threads_set(given: str | None, expected: int) -> None:
    program = (
        "import sys; from semseg.engines.choose import TORCH; assert TORCH.is_installed()\n"
        "assert 'torch' not in sys.modules; TORCH.cpu(); import torch; print(torch.get_num_threads())\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    program = (
        "from semseg.engines.torch import runtime\ntry: runtime.cpu()\nexcept Exception as error: print(repr(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith("DeviceError('PyTorch cannot be loaded: libcudart.so.13: cannot open shared object")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_sleep_soon_unless_the_environment_says_otherwise(
    tmp_path: Path, given: dict[str, str], expected: str | None
) -> None:
    (tmp_path / "torch.py").write_text("import os; print(os.environ.get('GOMP_SPINCOUNT')); raise ImportError")
    program = "from semseg.engines.torch import runtime\ntry: runtime.load()\nexcept Exception: pass"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | given | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == f"{expected}\n"


def test_tf32_is_off_unless_it_is_allowed_and_then_for_convolutions_alone() -> None:
    runtime.load()
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    assert (convolutions.fp32_precision, products.fp32_precision) == ("ieee", "ieee")
    runtime.allow_tf32(True)
    assert (convolutions.fp32_precision, products.fp32_precision) == ("tf32", "ieee")
    runtime.allow_tf32(False)
    assert convolutions.fp32_precision == "ieee"


class Gpu:
    """Answers as torch.cuda and NVIDIA's driver do on a machine with GPUs; what would leave a context there fails.

    fault: of PyTorch. driver: the library of NVIDIA's.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, driver: ctypes.CDLL) -> None:
        self.capability, self.fault, self.driver = (9, 0), "", driver
        answers: dict[str, Callable[..., Any]] = {
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "get_device_capability": self._capability,
            "get_device_name": lambda device: "NVIDIA X",
            "get_arch_list": lambda: CUDA_13,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        for name in ("mem_get_info", "synchronize", "empty_cache", "set_device", "current_device", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail("it makes a context"))
        for name in ("zeros", "empty", "ones", "tensor"):
            monkeypatch.setattr(torch, name, lambda *_, **__: pytest.fail("it makes a context"))
        monkeypatch.setattr(cuda_driver, "load_driver", lambda: self.driver)

    def _capability(self, _: Any) -> tuple[int, int]:
        if self.fault:
            raise torch.AcceleratorError(self.fault)
        return self.capability


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, driver: Callable[..., ctypes.CDLL]) -> Gpu:
    return Gpu(monkeypatch, driver(gpus=2))


def test_the_gpus_are_used_if_the_first_computes(gpu: Gpu, driver: Callable[..., ctypes.CDLL]) -> None:
    assert runtime.devices() == (torch.device("cuda", 0), 2)
    gpu.driver = driver(context=46)
    with pytest.raises(DeviceError, match=r"^The GPU cannot be used: .* error 46, it is busy or unavailable\. Check"):
        runtime.devices()
    gpu.fault = "CUDA error: system not yet initialized\nCompile with `TORCH_USE_CUDA_DSA`."
    with pytest.raises(DeviceError, match=r"^The GPU cannot be used: CUDA error: system not yet initialized\. Check"):
        runtime.devices()


def test_gpus_of_another_kind_than_the_first_are_left_out_with_a_warning(
    gpu: Gpu, driver: Callable[..., ctypes.CDLL], caplog: pytest.LogCaptureFixture
) -> None:
    gpu.driver = driver(gpus=1)
    assert runtime.devices() == (torch.device("cuda", 0), 1)
    assert [message[:41] for message in caplog.messages] == ["Of 2 GPUs only the first 1 are used: the "]


def test_the_process_that_starts_ranks_for_gpus_has_no_context_there(gpu: Gpu) -> None:
    """It would take memory from the first rank, or the whole GPU where only one process may have it."""
    trainer = choose_trainer("torch", "gpu", "auto", "ml.p5.48xlarge")
    settings, _ = parse({"num_classes": "2"})
    assert plan_ranks(settings, Hosts("algo-1"), trainer) == Ranks(2)
    assert trainer.precision == "bfloat16"
    assert ctypes.c_int.in_dll(gpu.driver, "contexts").value == 0


def test_a_gpu_that_the_build_has_no_code_for_is_named_with_the_way_out(gpu: Gpu) -> None:
    gpu.capability = (7, 0)
    with pytest.raises(DeviceError) as caught:
        runtime.devices()
    assert caught.value.message == (
        "The GPU NVIDIA X has compute capability 7.0, for which this build of PyTorch has no machine code; it has for "
        "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120."
    )
    assert "the engine mxnet" in caught.value.hint


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        (["sm_80"], (8, 0), True),
        (["sm_80"], (8, 9), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_80", "compute_80"], (9, 0), True),
        (["compute_90"], (8, 9), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a", "compute_100a"], (10, 3), False),
        (["sm_120"], (12, 1), True),
        (["sm_75", "gfx90a"], (9, 0), False),
        ([], (8, 0), False),
    ],
)
def test_code_runs_on_later_minor_versions_and_what_the_driver_translates_on_all_later_ones(
    architectures: list[str], capability: tuple[int, int], expected: bool
) -> None:
    assert runtime.has_code(architectures, *capability) is expected


ROWS = re.findall(r"^\| `(ml\.\w+)` \| \w+ \| ([\d.]+) \| [^|]+ \| ([^|]+) \|$", README, re.MULTILINE)


@pytest.mark.req("R54", "R55")
@pytest.mark.parametrize(("instance", "capability", "promise"), ROWS)
def test_the_readme_promises_what_pytorch_has_code_for(instance: str, capability: str, promise: str) -> None:
    major, minor = map(int, capability.split("."))
    assert {"trains and serves": True, "no": False}[promise] is runtime.has_code(CUDA_13, major, minor), instance


def test_the_table_of_the_readme_was_found() -> None:
    assert len(ROWS) == 7


def test_without_a_gpu_the_cpu_is_used_unless_one_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.devices() == (torch.device("cpu"), 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        DeviceError, match=r"^No GPU can be used: PyTorch's CPU build is installed\. Use the torch image"
    ):
        runtime.devices(required=True)
    assert not runtime.is_for_gpus()


def test_the_cause_is_the_driver_s_where_the_cuda_build_finds_no_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., ctypes.CDLL]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: driver(version=12020))
    with pytest.raises(DeviceError) as caught:
        runtime.devices(required=True)
    assert str(caught.value) == (
        "No GPU can be used: NVIDIA's driver is too old: it is for CUDA 12.2, PyTorch for CUDA 13. "
        "Install a driver of the series 580 or newer."
    )
    assert runtime.is_for_gpus()


def test_the_cpu_is_had_without_looking_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("it looked"))
    assert runtime.cpu() == torch.device("cpu")


@pytest.mark.parametrize(
    ("capability", "expected", "ampere"),
    [
        ((7, 5), ("float32", "float16"), False),
        ((8, 0), ("bfloat16", "float32", "float16"), True),
        ((12, 0), ("bfloat16", "float32", "float16"), True),
    ],
)
def test_gpus_compute_in_bfloat16_from_the_ampere_generation_on(
    gpu: Gpu, capability: tuple[int, int], expected: tuple[str, ...], ampere: bool
) -> None:
    gpu.capability = capability
    assert runtime.precisions(torch.device("cuda", 0)) == expected
    assert runtime.is_ampere(torch.device("cuda", 0)) is ampere


@pytest.mark.parametrize(
    ("has_bf16", "is_faster", "expected"),
    [
        (True, True, ("bfloat16", "float32")),
        (True, False, ("float32", "bfloat16")),
        (False, False, ("float32",)),
    ],
)
def test_cpus_compute_in_bfloat16_where_they_have_it_and_by_themselves_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, is_faster: bool, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(runtime, "has_bf16", lambda: has_bf16)
    monkeypatch.setattr(runtime, "is_bf16_faster", lambda: is_faster)
    assert runtime.precisions(torch.device("cpu")) == expected
    assert not runtime.is_ampere(torch.device("cpu"))


def test_the_free_memory_of_a_gpu_is_read_once_what_was_kept_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def info(_: Any) -> tuple[int, int]:
        done.append("read")
        return 11 << 30, 16 << 30

    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: done.append("waited"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    assert runtime.device_memory(torch.device("cuda", 0)) == 11 << 30
    assert done == ["waited", "emptied", "read"]
    assert runtime.device_memory(torch.device("cpu")) is None
