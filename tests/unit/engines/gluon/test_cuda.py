"""The gpu variant's libraries, on real shared libraries made here: no GPU and no CUDA are needed."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from readme import README

from semseg.engines.gluon import cuda
from semseg.errors import DeviceError

ROOT = Path(__file__).parents[4]
STUB = ROOT / "docker/libcuda_stub.c"


@pytest.mark.req("R54", "R55")
@pytest.mark.parametrize(
    ("instance", "name", "capability"),
    [
        ("P3", "Tesla V100-SXM2-16GB", "7.0"),
        ("G4dn", "Tesla T4", "7.5"),
        ("P4d", "NVIDIA A100-SXM4-40GB", "8.0"),
        ("G5", "NVIDIA A10G", "8.6"),
        ("G6", "NVIDIA L4", "8.9"),
    ],
)
def test_gpus_of_these_families_are_accepted(
    driver: Callable[..., ctypes.CDLL], instance: str, name: str, capability: str
) -> None:
    cuda.require_code_for_first_gpu(driver(name, capability))


@pytest.mark.req("R54", "R55")
@pytest.mark.parametrize(
    ("name", "capability"),
    [("Tesla K80", "3.7"), ("NVIDIA H100 80GB HBM3", "9.0"), ("NVIDIA B200", "10.0"), ("NVIDIA RTX 5090", "12.0")],
)
def test_a_gpu_without_code_is_named_with_those_that_work(
    driver: Callable[..., ctypes.CDLL], name: str, capability: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        cuda.require_code_for_first_gpu(driver(name, capability))
    assert f"The GPU {name} has compute capability {capability}" in caught.value.message
    for family in ("P3", "P4d", "G4dn", "G5", "G6"):
        assert family in caught.value.hint
    assert caught.value.exit_code == 1


@pytest.mark.req("R54", "R55", "R56")
@pytest.mark.parametrize("row", re.findall(r"^\| `(ml\.\w+)` \| (\w+) \| ([\d.]+) \| ([^|]+) \|", README, re.MULTILINE))
def test_the_readme_promises_what_is_accepted(driver: Callable[..., ctypes.CDLL], row: tuple[str, ...]) -> None:
    instance, name, capability, promise = row
    assert promise.startswith(("trains and serves", "no")), instance
    refusal = nullcontext() if promise == "trains and serves" else pytest.raises(DeviceError)
    with refusal:
        cuda.require_code_for_first_gpu(driver(name, capability))


def test_a_driver_that_does_not_start_is_left_to_mxnet(driver: Callable[..., ctypes.CDLL]) -> None:
    cuda.require_code_for_first_gpu(driver("Tesla K80", "3.7", init=999))


def test_the_stub_is_a_driver_without_a_gpu(compile_library: Callable[[str, str], Path]) -> None:
    stub = ctypes.CDLL(str(compile_library(STUB.read_text(), "libcuda.so.1")))
    assert stub.cuInit(0) == 100  # CUDA_ERROR_NO_DEVICE
    cuda.require_code_for_first_gpu(stub)


def test_the_cpu_variant_is_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_installed", lambda: False)
    assert str(cuda.why_none()) == (
        "No GPU can be used: MXNet's cpu variant is installed. Use the gpu image, or install the gpu variant."
    )


class TestPreload:
    """Each in a process of its own: a loaded library stays."""

    PROGRAM = (
        "import sys, importlib.metadata\n"
        "from semseg.engines.gluon import cuda\n"
        "if sys.argv[1] == 'gpu': importlib.metadata.version = lambda name: '1.9.1'\n"
        "sys.prefix = sys.argv[2]; sys.path.insert(0, sys.argv[2])\n"
        "try: cuda.preload()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(*sorted({line.split()[-1] for line in open('/proc/self/maps') if sys.argv[2] in line}), sep='\\n')"
    )

    @pytest.fixture
    def environment(self, compile_library: Callable[[str, str], Path], tmp_path: Path) -> Path:
        """Has the stub, and a wheel's library that is linked against another wheel's."""
        (tmp_path / "lib/no-gpu").mkdir(parents=True)
        shutil.copy(compile_library(STUB.read_text(), "libcuda.so.1"), tmp_path / "lib/no-gpu")
        for library in ("cudnn/lib/libcudnn.so.8", "cublas/lib/libcublas.so.11"):
            (tmp_path / "nvidia" / library).parent.mkdir(parents=True)
            shutil.copy(compile_library("int here;", Path(library).name), tmp_path / "nvidia" / library)
        (tmp_path / "nvidia/__init__.py").touch()
        return tmp_path

    def loaded(self, variant: str, environment: Path, **variables: str) -> list[str]:
        command = [sys.executable, "-c", self.PROGRAM, variant, str(environment)]
        done = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, check=True, timeout=60
        )
        return [line.removeprefix(f"{environment}/") for line in done.stdout.splitlines() if line]

    def test_the_gpu_variant_loads_the_stub_and_what_the_wheels_have(self, environment: Path) -> None:
        if Path("/usr/lib/x86_64-linux-gnu/libcuda.so.1").exists():
            pytest.skip("this machine has a driver")
        assert self.loaded("gpu", environment) == [
            "lib/no-gpu/libcuda.so.1",
            "nvidia/cublas/lib/libcublas.so.11",
            "nvidia/cudnn/lib/libcudnn.so.8",
        ]

    def test_the_stub_does_not_take_the_place_of_a_driver(
        self, environment: Path, driver_file: Callable[..., Path]
    ) -> None:
        (environment / "driver").mkdir()
        shutil.copy(driver_file("NVIDIA L4", "8.9"), environment / "driver")
        loaded = self.loaded("gpu", environment, LD_LIBRARY_PATH=str(environment / "driver"))
        assert [name for name in loaded if "libcuda" in name] == ["driver/libcuda.so.1"]

    def test_the_cpu_variant_loads_nothing(self, environment: Path) -> None:
        assert self.loaded("cpu", environment) == []

    def test_without_driver_and_stub_the_error_names_the_ways_out(self, tmp_path: Path) -> None:
        if Path("/usr/lib/x86_64-linux-gnu/libcuda.so.1").exists():
            pytest.skip("this machine has a driver")
        (line,) = self.loaded("gpu", tmp_path)
        assert line.startswith("DeviceError MXNet's gpu variant needs libcuda.so.1")
        assert "cpu variant" in line
