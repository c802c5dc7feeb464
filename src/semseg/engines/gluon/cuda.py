"""CUDA for MXNet's gpu variant: loads its libraries, checks that it supports the GPU, explains why none is usable."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from semseg.errors import DeviceError
from semseg.machine import gpu_files

DRIVER = "libcuda.so.1"

_GPU_VARIANT = "mxnet-cu112"
_LIBRARIES = (  # of NVIDIA's wheels, each after those that it needs
    "cuda_runtime/lib/libcudart.so.11.0",
    "cuda_nvrtc/lib/libnvrtc.so.11.2",
    "nvtx/lib/libnvToolsExt.so.1",
    "cublas/lib/libcublasLt.so.11",
    "cublas/lib/libcublas.so.11",
    "cufft/lib/libcufft.so.10",
    "curand/lib/libcurand.so.10",
    "cusolver/lib/libcusolver.so.11",
    "nccl/lib/libnccl.so.2",
    "cudnn/lib/libcudnn.so.8",
)
_MAJORS = range(5, 9)
"""Major compute capabilities. The wheel has code for sm_50, 60, 70, 80 and 86, which also runs on later minor versions
of the same major one, and no PTX that a newer GPU could translate."""

_FAMILIES = "Use an instance of the families P3, P4d, G4dn, G5 or G6, or one without a GPU."

# Constants of CUDA's driver interface (cuda.h).
_SUCCESS, _NO_DEVICE = 0, 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_CUDA_11 = 11000  # as cuDriverGetVersion has it

_STUB_SYMBOL = "semseg_stands_in"
"""A symbol that the image's stub has, and no driver."""

_CHECK_SETUP = (
    "Check that nvidia-smi works on the machine, and that the container was started with its GPUs (--gpus all)."
)


def is_installed() -> bool:
    """Return whether MXNet's gpu variant is installed."""
    try:
        importlib.metadata.version(_GPU_VARIANT)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def preload() -> None:
    """Load the libraries that the gpu variant's libmxnet.so needs: the driver's and those of NVIDIA's wheels.

    Once loaded, a library is found by its name, wherever it is. A machine without a driver gets the image's stub, which
    reports that there is no GPU. Does nothing for the cpu variant, and leaves libraries that are not in a wheel to the
    system. Raises DeviceError when there is neither driver nor stub.
    """
    if not is_installed():
        return
    driver()
    for path in _wheel_libraries():
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def driver() -> ctypes.CDLL:
    """Return the driver's library, or the image's stub; raises DeviceError when there is neither."""
    for name in (DRIVER, str(stub())):
        with suppress(OSError):
            return ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    raise DeviceError(
        f"MXNet's gpu variant needs {DRIVER}, the library of NVIDIA's driver, which this machine does not have.",
        "Install the driver, or use the cpu variant; the container image of the gpu variant runs without a driver.",
    )


def stub() -> Path:
    """Return the path of the container image's stub of the driver's library. It is not beside libmxnet.so, which would
    prefer it to the real one."""
    return Path(sys.prefix) / "lib/no-gpu" / DRIVER


def require_code_for_first_gpu(library: ctypes.CDLL) -> None:
    """Raise DeviceError, naming the GPU and those that work, when MXNet has no machine code for the first GPU.

    library: the driver's. Without this check the first kernel would fail with an obscure error.
    """
    if library.cuInit(0) != _SUCCESS:
        return  # MXNet reports what is wrong with the driver
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    major, minor = ctypes.c_int(), ctypes.c_int()
    answers = (
        library.cuDeviceGet(ctypes.byref(device), 0),
        library.cuDeviceGetName(name, len(name), device),
        library.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        library.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    )
    if all(answer == _SUCCESS for answer in answers) and major.value not in _MAJORS:
        raise no_code(
            f"{name.value.decode(errors='replace')} has compute capability {major.value}.{minor.value}, for which"
        )


def no_code(subject: str = "is one for which") -> DeviceError:
    """Return the error that MXNet has no machine code for a GPU; `subject` begins its sentence."""
    return DeviceError(
        f"The GPU {subject} MXNet has no machine code; it has for {_MAJORS[0]}.0 to {_MAJORS[-1]}.9.",
        _FAMILIES,
    )


def why_none(
    library: ctypes.CDLL | None, dev: Path = Path("/dev"), environ: Mapping[str, str] = os.environ
) -> DeviceError:
    """Return the error that no GPU can be used, with the cause, as far as it can be found, and a way out.

    library: the driver's, or the stub; None for MXNet's cpu variant. dev: the folder of device files.
    """
    return DeviceError(*_cause(library, dev, environ))


def _cause(library: ctypes.CDLL | None, dev: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """The reason why no GPU can be used, and what to do."""
    cannot = "No GPU can be used: "
    if library is None:
        return f"{cannot}MXNet's cpu variant is installed.", "Use the gpu image, or install the gpu variant."
    if hasattr(library, _STUB_SYMBOL):
        return f"{cannot}{DRIVER}, the library of NVIDIA's driver, is not there or cannot be loaded.", _CHECK_SETUP
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) == _SUCCESS and version.value < _CUDA_11:
        supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return (
            f"{cannot}NVIDIA's driver is too old: it is for CUDA {supported}, MXNet for CUDA 11.",
            "Install a driver of the series 450 or newer.",
        )
    code = library.cuInit(0)
    if code in (_SUCCESS, _NO_DEVICE) and not gpu_files(dev):
        return f"{cannot}the driver is there, but no device file such as {dev / 'nvidia0'}.", _CHECK_SETUP
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    if code in (_SUCCESS, _NO_DEVICE) and hidden not in (None, "0"):
        return f"{cannot}CUDA_VISIBLE_DEVICES={hidden[:50]!r} hides what there is.", "Unset it, or set it to 0."
    if code == _SUCCESS:
        return f"{cannot}NVIDIA's driver works, but CUDA finds none.", _CHECK_SETUP
    return f"{cannot}NVIDIA's driver answers {_words(library, code)}.", _CHECK_SETUP


def _words(library: ctypes.CDLL, code: int) -> str:
    """An error of the driver: its number and, if the driver has one, its text."""
    text = ctypes.c_char_p()
    found = library.cuGetErrorString(code, ctypes.byref(text)) == _SUCCESS and text.value
    return f"with error {code}, {found.decode(errors='replace')}" if found else f"with error {code}"


def _wheel_libraries() -> list[Path]:
    """The libraries that NVIDIA's wheels have installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return [path for library in _LIBRARIES for folder in folders if (path := folder / library).is_file()]
