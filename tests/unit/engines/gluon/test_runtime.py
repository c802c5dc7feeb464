from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.engines import cuda_driver
from semseg.engines.gluon import cuda, runtime
from semseg.errors import DeviceError
from semseg.machine import usable_cores


@pytest.mark.parametrize(("given", "expected"), [(None, str(usable_cores())), ("1", "1")])
def test_mxnet_is_imported_quietly_with_its_threads_set(given: str | None, expected: str) -> None:
    program = (
        "import sys, warnings, os; from semseg.engines.gluon import runtime; assert 'mxnet' not in sys.modules\n"
        "before = list(warnings.filters); assert runtime.load() is runtime.load() is sys.modules['mxnet']\n"
        "assert warnings.filters == before; print(os.environ['OMP_NUM_THREADS'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


def test_mxnet_that_is_missing_is_what_the_error_names() -> None:
    """GluonCV would say that torch is missing too."""
    program = "import sys; sys.modules['mxnet'] = None; from semseg.engines.gluon import runtime; runtime.load()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of mxnet halted")


@pytest.mark.parametrize("imported", [True, False])
def test_mxnet_is_loaded_beside_a_newer_pytorch(tmp_path: Path, imported: bool) -> None:
    """GluonCV 0.10.5 refuses to be imported where PyTorch 2 can be."""
    (tmp_path / "torch.py").write_text("__version__ = '2.13.0'")
    program = (
        f"import sys; {'import torch; ' if imported else ''}from semseg.engines.gluon import runtime; runtime.load()\n"
        f"assert ('torch' in sys.modules) is {imported}; import torch; print(torch.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2.13.0\n", "")


DEFAULTS = {
    "MXNET_MKLDNN_CACHE_NUM": "200",
    "MXNET_CUDNN_AUTOTUNE_DEFAULT": "0",
    "MXNET_CUDNN_LIB_CHECKING": "0",
    "MXNET_USE_FUSION": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUDA_MODULE_LOADING": "LAZY",
}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"MXNET_CUDNN_AUTOTUNE_DEFAULT": "1"},
        {"MXNET_CUDNN_AUTOTUNE_DEFAULT": "0"},
        {"NVIDIA_TF32_OVERRIDE": "1", "MXNET_USE_FUSION": "1"},
        {"CUDA_MODULE_LOADING": "EAGER", "MXNET_MKLDNN_CACHE_NUM": ""},
    ],
)
def test_settings_are_made_before_a_library_is_loaded_unless_they_exist(given: dict[str, str]) -> None:
    program = (
        "import ctypes, json, os, sys; from semseg.engines.gluon import cuda, runtime\n"
        "getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p\n"
        f"cuda.preload = lambda: sys.exit(json.dumps([getenv(name.encode()).decode() for name in {list(DEFAULTS)}]))\n"
        "print(runtime.tunes()); runtime.load()"
    )
    environment = {key: value for key, value in os.environ.items() if key not in DEFAULTS} | given
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert dict(zip(DEFAULTS, json.loads(done.stderr), strict=True)) == DEFAULTS | given
    assert done.stdout == f"{'MXNET_CUDNN_AUTOTUNE_DEFAULT' not in given}\n"


@pytest.mark.req("R56")
def test_a_machine_without_gpu_computes_on_its_cpu() -> None:
    contexts, gpus = runtime.devices()
    assert ([one.device_type for one in contexts], gpus) == ((["gpu"] * gpus, gpus) if gpus else (["cpu"], 0))


def test_the_first_gpu_is_asked_for_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(library: object) -> None:
        raise DeviceError(f"{library} is too old")

    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 2)
    monkeypatch.setattr(cuda, "driver", lambda: "the first GPU")
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", refuse)
    with pytest.raises(DeviceError, match="the first GPU is too old"):
        runtime.devices()
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", lambda library: None)
    monkeypatch.setattr(cuda_driver, "like_the_first", lambda library, gpus: gpus)
    contexts, gpus = runtime.devices()
    assert ([(one.device_type, one.device_id) for one in contexts], gpus) == ([("gpu", 0), ("gpu", 1)], 2)


def test_gpus_of_another_kind_than_the_first_are_left_out_with_a_warning(
    driver: Callable[..., ctypes.CDLL], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 4)
    for alike, said in ((2, ["Of 4 GPUs only the first 2 are used"]), (4, [])):
        library = driver("NVIDIA L4", "8.9", gpus=alike)
        monkeypatch.setattr(cuda, "driver", lambda library=library: library)
        caplog.clear()
        contexts, gpus = runtime.devices()
        assert ([one.device_id for one in contexts], gpus) == (list(range(alike)), alike)
        assert [message[: len(text)] for message, text in zip(caplog.messages, said, strict=True)] == said


def test_a_driver_that_fails_is_a_user_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise runtime.load().base.MXNetError("Traceback:\nCUDA: driver version is insufficient\n")

    monkeypatch.setattr(runtime.load().context, "num_gpus", fail)
    with pytest.raises(DeviceError, match=r"CUDA: driver version is insufficient.*nvidia-smi"):
        runtime.devices()


def test_a_gpu_that_is_required_and_not_there_is_an_error_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 0)
    assert runtime.devices()[1] == 0
    monkeypatch.setattr(cuda, "is_installed", lambda: False)
    with pytest.raises(DeviceError, match=r"No GPU can be used: MXNet's cpu variant is installed\."):
        runtime.devices(required=True)
    monkeypatch.setattr(cuda, "is_installed", lambda: True)
    monkeypatch.setattr(cuda, "driver", lambda: "the driver")
    monkeypatch.setattr(cuda_driver, "why_none", lambda driver, title, cuda: DeviceError(f"{driver} sleeps"))
    with pytest.raises(DeviceError, match="the driver sleeps"):
        runtime.devices(required=True)


def test_the_cpu_is_had_without_looking_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: pytest.fail("it looked"))
    assert runtime.cpu().device_type == "cpu"


def test_the_free_memory_of_a_gpu_is_read_after_its_pool_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine with a GPU runs this: an object stands in for it."""
    done: list[Any] = []

    class Gpu:
        device_type, device_id = "gpu", 0

        def empty_cache(self) -> None:
            done.append("emptied")

    def info(device: int) -> tuple[int, int]:
        done.append(device)
        return 11 << 30, 16 << 30

    monkeypatch.setattr(runtime.load().context, "gpu_memory_info", info)
    assert runtime.device_memory(Gpu()) == 11 << 30
    assert done == ["emptied", 0]
    assert runtime.device_memory(runtime.cpu()) is None


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_keep_their_dtype_and_are_copies(dtype: str) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    copy = runtime.to_device(array, runtime.load().cpu())
    array[0, 0] = 9
    assert copy.dtype == np.dtype(dtype)
    assert copy.asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]]
