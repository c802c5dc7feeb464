"""A batch to learn, and real shared libraries made here in place of NVIDIA's driver: no GPU or CUDA is needed."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semseg.types import Batch

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) {{ return {init}; }}
int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
int cuGetErrorString(int code, const char **text) {{
    *text = code == 100 ? "no CUDA-capable device is detected" : code == 46 ? "it is busy or unavailable" : 0;
    return *text ? 0 : 1;
}}
int cuDeviceGet(int *device, int ordinal) {{ *device = 7 + ordinal; return 0; }}
int cuDeviceGetName(char *name, int length, int device) {{
    strncpy(name, device < 7 + {gpus} ? "{name}" : "?", length);
    return 0;
}}
int cuDeviceGetAttribute(int *value, int attribute, int device) {{
    *value = device >= 7 + {gpus} ? 0 : attribute == 75 ? {major} : attribute == 76 ? {minor} : 0;
    return 0;
}}
int contexts = 0;
int cuDevicePrimaryCtxRetain(void **context, int device) {{ contexts += {context} == 0; return {context}; }}
int cuDevicePrimaryCtxRelease_v2(int device) {{ contexts -= 1; return 0; }}
"""


@pytest.fixture
def batch() -> Batch:
    """Two images whose upper half is dark and of class 0, whose lower half is bright and of class 1."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1], np.uint8), 16)[None, :, None] + np.zeros((2, 32, 32), np.uint8)
    noise = rng.integers(0, 60, (2, 32, 32, 3))
    return Batch((labels[..., None] * 180 + noise).astype(np.uint8), labels)


@pytest.fixture(scope="session")
def compile_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes a shared library of a name from C source."""
    compiler = shutil.which("cc") or shutil.which("gcc") or ""
    if not compiler:
        pytest.skip("there is no C compiler")

    def make(source: str, name: str) -> Path:
        library = tmp_path_factory.mktemp("libraries") / name
        flags = ["-shared", "-fPIC", "-Wall", "-Werror", f"-Wl,-soname,{name}"]
        command = [compiler, *flags, "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=source, text=True, timeout=300, check=True)
        return library

    return make


@pytest.fixture
def driver_file(compile_library: Callable[[str, str], Path]) -> Callable[..., Path]:
    """Makes the file of a driver's library whose first GPUs have this name and compute capability.

    context: its answer to a process that wants to compute. Its variable `contexts` counts those that processes have.
    """

    def make(
        name: str = "NVIDIA A10G",
        capability: str = "8.6",
        init: int = 0,
        version: int = 12020,
        gpus: int = 1,
        context: int = 0,
    ) -> Path:
        major, minor = capability.split(".")
        numbers = {"init": init, "version": version, "major": major, "minor": minor, "gpus": gpus, "context": context}
        source = DRIVER.format(name=name, **numbers)
        return compile_library(source, "libcuda.so.1")

    return make


@pytest.fixture
def driver(driver_file: Callable[..., Path]) -> Callable[..., ctypes.CDLL]:
    """Loads such a library."""
    return lambda *arguments, **settings: ctypes.CDLL(str(driver_file(*arguments, **settings)))
