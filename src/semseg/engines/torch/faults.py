"""Translates PyTorch's GPU errors into this project's errors, so that other packages never see PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gpu_faults import SERVING_HINT as SERVING_HINT
from semseg.engines.gpu_faults import TRAINING_HINT as TRAINING_HINT
from semseg.engines.gpu_faults import lacks_code, raise_if_full
from semseg.engines.torch import runtime


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate PyTorch's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, and
    to DeviceError if PyTorch has no machine code for the GPU. Other errors pass unchanged.

    Wrap every function that uses the device or waits for it: CUDA reports the errors of earlier calls there. All of
    them are RuntimeErrors; PyTorch has further classes for some, but not for each library's lack of memory.
    """
    try:
        yield
    except RuntimeError as error:
        raise_if_full(error, hint)
        if lacks_code(error):
            raise runtime.no_code() from error
        raise
