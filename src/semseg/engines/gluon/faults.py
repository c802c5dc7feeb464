"""Translates MXNet's GPU errors into this project's errors, so that other packages never see MXNet's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gluon import cuda, runtime
from semseg.errors import DeviceMemoryError

TRAINING_HINT = (
    "Lower mini_batch_size or crop_size (for validation: validation_mini_batch_size, but not to 1, which processes "
    "whole images), or use an instance whose GPU has more memory."
)
SERVING_HINT = (
    "Send a smaller image, set or lower SEMSEG_MAX_TILE_PIXELS, or serve on an instance whose GPU has more memory."
)

_OUT_OF_MEMORY = re.compile("out[ _]of[ _]memory|_ALLOC(?:ATION)?_FAILED", re.IGNORECASE)
"""The wording of CUDA, cuDNN, cuBLAS, cuSOLVER and cuRAND; MXNet reports a lack of host memory in other words."""

_NO_MACHINE_CODE = "no kernel image is available"


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate MXNet's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, and to
    DeviceError if MXNet has no machine code for the GPU. Other errors pass unchanged.

    Wrap every function that waits for the device: MXNet raises the errors of earlier calls there.
    """
    try:
        yield
    except runtime.load().base.MXNetError as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise DeviceMemoryError("The GPU's memory is too small.", hint) from error
        if _NO_MACHINE_CODE in str(error):
            raise cuda.no_code() from error
        raise
