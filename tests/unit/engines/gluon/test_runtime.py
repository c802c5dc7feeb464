from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semseg.engines.gluon import cuda, runtime
from semseg.engines.machine import usable_cores
from semseg.errors import DeviceError


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


@pytest.mark.req("R56")
def test_a_machine_without_gpu_computes_on_its_cpu() -> None:
    device, gpus = runtime.devices()
    assert (device.device_type, gpus) == (("gpu", gpus) if gpus else ("cpu", 0))


def test_the_first_gpu_is_asked_for_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(library: object) -> None:
        raise DeviceError(f"{library} is too old")

    monkeypatch.setattr(runtime.load().context, "num_gpus", lambda: 2)
    monkeypatch.setattr(cuda, "driver", lambda: "the first GPU")
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", refuse)
    with pytest.raises(DeviceError, match="the first GPU is too old"):
        runtime.devices()
    monkeypatch.setattr(cuda, "require_code_for_first_gpu", lambda library: None)
    device, gpus = runtime.devices()
    assert (device.device_type, device.device_id, gpus) == ("gpu", 0, 2)


def test_a_driver_that_fails_is_a_user_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise runtime.load().base.MXNetError("Traceback:\nCUDA: driver version is insufficient\n")

    monkeypatch.setattr(runtime.load().context, "num_gpus", fail)
    with pytest.raises(DeviceError, match=r"CUDA: driver version is insufficient.*nvidia-smi"):
        runtime.devices()


@pytest.mark.parametrize(
    ("files", "expected"),
    [(["nvidia0", "nvidiactl"], True), (["nvidia12"], True), (["nvidiactl", "nvidia-uvm", "null"], False), ([], False)],
)
def test_a_gpu_is_expected_where_the_driver_has_a_device_file(tmp_path: Path, files: list[str], expected: bool) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert runtime.seems_to_have_gpu(tmp_path) is expected


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_keep_their_dtype_and_are_copies(dtype: str) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    copy = runtime.to_device(array, runtime.load().cpu())
    array[0, 0] = 9
    assert copy.dtype == np.dtype(dtype)
    assert copy.asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]]
