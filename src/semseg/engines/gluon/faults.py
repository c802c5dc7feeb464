"""Translates MXNet's errors about the GPU to this project's, the only ones that code outside this folder knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gluon import cuda, runtime
from semseg.engines.gpu_faults import SERVING as SERVING
from semseg.engines.gpu_faults import TRAINING as TRAINING
from semseg.engines.gpu_faults import lacks_code, out_of_memory


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate MXNet's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, and to
    DeviceError if MXNet has no machine code for the GPU. Other errors pass unchanged.

    For every function that waits for the device, because MXNet raises the errors of earlier calls there.
    """
    try:
        yield
    except runtime.load().base.MXNetError as error:
        if full := out_of_memory(error, hint):
            raise full from error
        if lacks_code(error):
            raise cuda.no_code() from error
        raise
