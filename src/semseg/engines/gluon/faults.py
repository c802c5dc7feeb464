"""What of MXNet's errors is the GPU's fault, in words of ours: nothing outside this folder knows MXNet's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gluon import cuda, runtime
from semseg.errors import DeviceMemoryError

TRAINING = (
    "Lower mini_batch_size or crop_size (in validation validation_mini_batch_size, but not to 1, which takes whole "
    "pictures), or take an instance whose GPU has more memory."
)
SERVING = (
    "Send a smaller image, set SEMSEG_MAX_TILE_PIXELS, or lower it, or serve on an instance whose GPU has more memory."
)

_OUT_OF_MEMORY = re.compile("out[ _]of[ _]memory|_ALLOC(?:ATION)?_FAILED", re.IGNORECASE)
"""CUDA's words, and what cuDNN, cuBLAS, cuSOLVER and cuRAND call it. For the host's memory MXNet has others."""

_NO_CODE = "no kernel image is available"


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Raise DeviceMemoryError for an error of MXNet's that tells that the GPU's memory is full, with `hint` for the way
    out, and DeviceError for one that tells that MXNet has no machine code for the GPU. Others pass as they are.

    It is for whatever waits for the device: MXNet raises there what went wrong in an earlier call.
    """
    try:
        yield
    except runtime.load().base.MXNetError as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise DeviceMemoryError("The GPU's memory is too small.", hint) from error
        if _NO_CODE in str(error):
            raise cuda.no_code() from error
        raise
