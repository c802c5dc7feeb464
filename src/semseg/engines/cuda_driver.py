"""NVIDIA's driver, for every engine that uses GPUs: loads its library, describes GPUs, explains why none is usable."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from semseg.errors import DeviceError
from semseg.machine import gpu_files

logger = logging.getLogger(__name__)

LIBRARY = "libcuda.so.1"

_STUB_SYMBOL = "semseg_stands_in"
"""A symbol that the image's stub has, and no driver."""

_SERIES = {11: 450, 12: 525, 13: 580}
"""The oldest series of drivers by CUDA's major version (CUDA Compatibility, "minor version compatibility")."""

_CHECK_SETUP = (
    "Check that nvidia-smi works on the machine, and that the container was started with its GPUs (--gpus all)."
)

# Constants of CUDA's driver interface (cuda.h).
_SUCCESS, _NO_DEVICE = 0, 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU's name, and its compute capability, such as 8.6, as two numbers."""

    name: str
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.name} has compute capability {self.major}.{self.minor}"


def load_driver() -> ctypes.CDLL | None:
    """Return the driver's library, or the image's stub, which reports that there is no GPU; None without either."""
    for name in (LIBRARY, str(stub())):
        with suppress(OSError):
            return ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    return None


def stub() -> Path:
    """Return the path of the container image's stub of the driver's library. It is not beside libmxnet.so, which would
    prefer it to the real one."""
    return Path(sys.prefix) / "lib/no-gpu" / LIBRARY


def first_gpu(driver: ctypes.CDLL) -> Gpu | None:
    """Return the first GPU; None if the driver does not work or finds none."""
    return _gpu(driver, 0)


def like_the_first(driver: ctypes.CDLL, gpus: int) -> int:
    """Return how many of the first `gpus` GPUs, from the first on, have its name and its compute capability.

    Logs a warning if another one follows: parts of a batch are equal, and all are computed in the same precision.
    """
    first = _gpu(driver, 0)
    alike = next((number for number in range(1, gpus) if _gpu(driver, number) != first), gpus)
    if alike < gpus:
        logger.warning(
            "Of %d GPUs only the first %d are used: the next is of another kind. CUDA_VISIBLE_DEVICES selects others.",
            gpus,
            alike,
        )
    return alike


def why_unusable(driver: ctypes.CDLL) -> str:
    """Return what the driver answers if this process cannot compute on the first GPU; empty if it can.

    Another process may have the GPU for itself. A context shows that, which takes 0.5 GB of the GPU's memory; it ends
    at once, unless this process has it already: what asks need not be what computes.
    """
    device, context = ctypes.c_int(), ctypes.c_void_p()
    code: int = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    )
    if code != _SUCCESS:
        return f"NVIDIA's driver answers {_words(driver, code)}"
    driver.cuDevicePrimaryCtxRelease_v2(device)
    return ""


def _gpu(driver: ctypes.CDLL, number: int) -> Gpu | None:
    """The GPU of a number; None if the driver does not work or does not have it."""
    if driver.cuInit(0) != _SUCCESS:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    major, minor = ctypes.c_int(), ctypes.c_int()
    answers = (
        driver.cuDeviceGet(ctypes.byref(device), number),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    )
    if any(answer != _SUCCESS for answer in answers):
        return None
    return Gpu(name.value.decode(errors="replace"), major.value, minor.value)


def why_none(
    driver: ctypes.CDLL | None,
    title: str,
    cuda: int,
    dev: Path = Path("/dev"),
    environ: Mapping[str, str] = os.environ,
) -> DeviceError:
    """Return the error that no GPU can be used, with the cause, as far as it can be found, and a way out.

    driver: what `load_driver` returned. title: the engine's name; cuda: the major version of CUDA that it was built
    for. dev: the folder of device files.
    """
    cause, hint = _cause(driver, title, cuda, dev, environ)
    return DeviceError(f"No GPU can be used: {cause}", hint)


def _cause(driver: ctypes.CDLL | None, title: str, cuda: int, dev: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    if driver is None or hasattr(driver, _STUB_SYMBOL):
        return f"{LIBRARY}, the library of NVIDIA's driver, is not there or cannot be loaded.", _CHECK_SETUP
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) == _SUCCESS and version.value < 1000 * cuda:
        supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
        series = f"of the series {_SERIES[cuda]} or newer" if cuda in _SERIES else f"for CUDA {cuda}"
        return (
            f"NVIDIA's driver is too old: it is for CUDA {supported}, {title} for CUDA {cuda}.",
            f"Install a driver {series}.",
        )
    code = driver.cuInit(0)
    if code in (_SUCCESS, _NO_DEVICE) and not gpu_files(dev):
        return f"the driver is there, but no device file such as {dev / 'nvidia0'}.", _CHECK_SETUP
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    if code in (_SUCCESS, _NO_DEVICE) and hidden not in (None, "0"):
        return f"CUDA_VISIBLE_DEVICES={hidden[:50]!r} hides what there is.", "Unset it, or set it to 0."
    if code == _SUCCESS:
        return "NVIDIA's driver works, but CUDA finds none.", _CHECK_SETUP
    return f"NVIDIA's driver answers {_words(driver, code)}.", _CHECK_SETUP


def _words(driver: ctypes.CDLL, code: int) -> str:
    """An error of the driver: its number and, if the driver has one, its text."""
    text = ctypes.c_char_p()
    found = driver.cuGetErrorString(code, ctypes.byref(text)) == _SUCCESS and text.value
    return f"with error {code}, {found.decode(errors='replace')}" if found else f"with error {code}"
