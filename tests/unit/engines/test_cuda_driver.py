"""The causes for which no GPU can be used, found with real shared libraries in place of NVIDIA's driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from semseg.engines import cuda_driver

STUB = Path(__file__).parents[3] / "docker/libcuda_stub.c"
NO_DEVICE = 100


@pytest.mark.parametrize(
    ("answers", "files", "environ", "cause"),
    [
        ({"init": NO_DEVICE}, ["nvidiactl"], {}, "the driver is there, but no device file such as {dev}/nvidia0."),
        ({}, [], {}, "the driver is there, but no device file such as {dev}/nvidia0."),
        ({"init": NO_DEVICE}, ["nvidia0"], {"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES='-1' hides what"),
        ({"init": NO_DEVICE}, ["nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' hides what there is"),
        (
            {"init": NO_DEVICE},
            ["nvidia0"],
            {},
            "NVIDIA's driver answers with error 100, no CUDA-capable device is detected.",
        ),
        ({"init": 0}, ["nvidia0"], {}, "NVIDIA's driver works, but CUDA finds none."),
        ({"init": 34}, ["nvidia0"], {}, "NVIDIA's driver answers with error 34."),  # the stub of CUDA's toolkit
        ({"init": 803}, ["nvidia0"], {"CUDA_VISIBLE_DEVICES": "0"}, "NVIDIA's driver answers with error 803."),
        (
            {"version": 10020, "init": 0},
            ["nvidia0"],
            {},
            "NVIDIA's driver is too old: it is for CUDA 10.2, MXNet for CUDA 11",
        ),
    ],
)
def test_the_cause_is_named_where_no_gpu_can_be_used(
    driver: Callable[..., ctypes.CDLL],
    tmp_path: Path,
    answers: dict[str, int],
    files: list[str],
    environ: dict[str, str],
    cause: str,
) -> None:
    for name in files:
        (tmp_path / name).touch()
    error = cuda_driver.why_none(driver(**answers), "MXNet", 11, tmp_path, environ)
    assert error.message.startswith(f"No GPU can be used: {cause.format(dev=tmp_path)}")
    assert error.hint
    assert error.exit_code == 1


@pytest.mark.parametrize("with_stub", [True, False])
def test_a_driver_that_is_absent_is_a_cause(
    compile_library: Callable[[str, str], Path], tmp_path: Path, with_stub: bool
) -> None:
    """With device files: a container may be given them without the driver."""
    (tmp_path / "nvidia0").touch()
    stub = ctypes.CDLL(str(compile_library(STUB.read_text(), "libcuda.so.1"))) if with_stub else None
    error = cuda_driver.why_none(stub, "PyTorch", 13, tmp_path, {})
    assert "libcuda.so.1, the library of NVIDIA's driver, is not there or cannot be loaded" in error.message
    assert "--gpus all" in error.hint


@pytest.mark.parametrize(
    ("cuda", "way_out"), [(12, "of the series 525 or newer"), (13, "of the series 580 or newer"), (99, "for CUDA 99")]
)
def test_the_driver_to_install_depends_on_the_engines_cuda(
    driver: Callable[..., ctypes.CDLL], tmp_path: Path, cuda: int, way_out: str
) -> None:
    error = cuda_driver.why_none(driver(version=11080), "PyTorch", cuda, tmp_path, {})
    assert error.message.endswith(f"it is for CUDA 11.8, PyTorch for CUDA {cuda}.")
    assert error.hint == f"Install a driver {way_out}."


def test_the_first_gpu_is_described(driver: Callable[..., ctypes.CDLL]) -> None:
    gpu = cuda_driver.first_gpu(driver("NVIDIA L4", "8.9"))
    assert gpu == cuda_driver.Gpu("NVIDIA L4", 8, 9)
    assert str(gpu) == "NVIDIA L4 has compute capability 8.9"
    assert cuda_driver.first_gpu(driver(init=999)) is None


@pytest.mark.parametrize(("alike", "gpus", "expected"), [(1, 1, 1), (1, 4, 1), (3, 4, 3), (4, 4, 4), (4, 2, 2)])
def test_gpus_are_counted_up_to_the_first_of_another_kind(
    driver: Callable[..., ctypes.CDLL], alike: int, gpus: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert cuda_driver.like_the_first(driver("NVIDIA L4", "8.9", gpus=alike), gpus) == expected
    said = [f"Of {gpus} GPUs only the first {alike} are used: the next is of another kind."] if alike < gpus else []
    assert [message[: len(text)] for message, text in zip(caplog.messages, said, strict=True)] == said


def test_a_gpu_that_another_process_has_for_itself_is_found_and_no_context_is_left(
    driver: Callable[..., ctypes.CDLL],
) -> None:
    for answers, fault in (
        ({}, ""),
        ({"context": 46}, "NVIDIA's driver answers with error 46, it is busy or unavailable"),
        ({"init": 3}, "NVIDIA's driver answers with error 3"),
    ):
        library = driver(**answers)
        assert cuda_driver.why_unusable(library) == fault
        assert ctypes.c_int.in_dll(library, "contexts").value == 0
