"""Translates MXNet's GPU errors into this project's errors, so that other packages never see MXNet's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gluon import cuda, runtime
from semseg.engines.gpu_faults import SERVING_HINT as SERVING_HINT
from semseg.engines.gpu_faults import TRAINING_HINT as TRAINING_HINT
from semseg.engines.gpu_faults import lacks_code, raise_if_full


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate MXNet's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, and to
    DeviceError if MXNet has no machine code for the GPU. Other errors pass unchanged.

    Wrap every function that waits for the device: MXNet raises the errors of earlier calls there.
    """
    try:
        yield
    except runtime.load().base.MXNetError as error:
        raise_if_full(error, hint)
        if lacks_code(error):
            raise cuda.no_code() from error
        raise
