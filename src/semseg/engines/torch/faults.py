"""Translates PyTorch's errors of GPUs and groups into this project's, so that other packages never see PyTorch's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gpu_faults import SERVING_HINT as SERVING_HINT
from semseg.engines.gpu_faults import TRAINING_HINT as TRAINING_HINT
from semseg.engines.gpu_faults import lacks_code, raise_if_full
from semseg.engines.torch import runtime
from semseg.errors import GroupError

_GROUP = re.compile(r"gloo|NCCL|TCPStore", re.IGNORECASE)
_PLACE, _ADVICE = re.compile(r"^\[[^]]*\] *"), re.compile(r"\s*This is typically caused by.*", re.DOTALL)
"""Of gloo's errors, the source line before the text, and the advice after it."""


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate PyTorch's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, to
    DeviceError if PyTorch has no machine code for the GPU, and to GroupError if the ranks of the training have lost one
    of them. Other errors pass unchanged.

    Wrap every function that uses the device or waits for it: CUDA reports the errors of earlier calls there. All of
    them are RuntimeErrors; PyTorch has further classes for some, but not for each library's lack of memory.
    """
    try:
        yield
    except RuntimeError as error:
        raise_if_full(error, hint)
        _raise_if_lost(error)
        if lacks_code(error):
            raise runtime.no_code() from error
        raise


@contextmanager
def translated_group() -> Iterator[None]:
    """Translate the errors of torch.distributed in the block to GroupError. Other errors pass unchanged."""
    try:
        yield
    except RuntimeError as error:
        _raise_if_lost(error)
        raise


def _raise_if_lost(error: RuntimeError) -> None:
    """Raise GroupError if an error is one of torch.distributed: it has classes for some, and for others their text."""
    text = str(error)
    if type(error).__name__.startswith("Dist") or _GROUP.search(text):
        detail = " ".join(_ADVICE.sub("", _PLACE.sub("", text)).split()).rstrip(".")
        raise GroupError(
            f"The training has lost the connection to another of its ranks: {detail}.",
            "See the logs of the others: one of them has failed, was stopped, or cannot be reached any more.",
        ) from error
