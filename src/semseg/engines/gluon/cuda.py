"""CUDA for MXNet's gpu variant: loads its libraries, and checks that it supports the GPU."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from pathlib import Path

from semseg.engines import cuda_driver
from semseg.errors import DeviceError

_GPU_VARIANT = "mxnet-cu112"
_CUDA = 11
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

_FAMILIES = "Use an instance of the families P3, P4d, G4dn, G5 or G6, or one without a GPU, or the engine torch."


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
    if found := cuda_driver.load_driver():
        return found
    raise DeviceError(
        f"MXNet's gpu variant needs {cuda_driver.LIBRARY}, the library of NVIDIA's driver, which this machine does not "
        "have.",
        "Install the driver, or use the cpu variant; the container image of the gpu variant runs without a driver.",
    )


def require_code_for_first_gpu(library: ctypes.CDLL) -> None:
    """Raise DeviceError, naming the GPU and those that work, when MXNet has no machine code for the first GPU.

    library: the driver's. Without this check the first kernel would fail with an obscure error. If the driver does not
    work, MXNet itself reports what is wrong with it.
    """
    gpu = cuda_driver.first_gpu(library)
    if gpu and gpu.major not in _MAJORS:
        raise no_code(f"{gpu}, for which")


def no_code(subject: str = "is one for which") -> DeviceError:
    """Return the error that MXNet has no machine code for a GPU; `subject` begins its sentence."""
    return DeviceError(
        f"The GPU {subject} MXNet has no machine code; it has for {_MAJORS[0]}.0 to {_MAJORS[-1]}.9.",
        _FAMILIES,
    )


def why_none() -> DeviceError:
    """Return the error that MXNet can use no GPU, with the cause, as far as it can be found, and a way out."""
    if not is_installed():
        return DeviceError(
            "No GPU can be used: MXNet's cpu variant is installed.", "Use the gpu image, or install the gpu variant."
        )
    return cuda_driver.why_none(driver(), "MXNet", _CUDA)


def _wheel_libraries() -> list[Path]:
    """The libraries that NVIDIA's wheels have installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return [path for library in _LIBRARIES for folder in folders if (path := folder / library).is_file()]
