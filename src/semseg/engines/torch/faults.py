"""Translates PyTorch's errors of GPUs and groups into this project's, so that other packages never see PyTorch's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from semseg.engines.gpu_faults import SERVING_HINT as SERVING_HINT
from semseg.engines.gpu_faults import TRAINING_HINT as TRAINING_HINT
from semseg.engines.gpu_faults import lacks_code, raise_if_full
from semseg.engines.torch import runtime
from semseg.errors import DeviceError, GroupError

_GROUP = re.compile(r"gloo|NCCL|TCPStore", re.IGNORECASE)
_PLACE, _ADVICE = re.compile(r"^\[[^]]*\] *"), re.compile(r"\s*This is typically caused by.*", re.DOTALL)
"""Of gloo's errors, the source line before the text, and the advice after it."""

_SHARED_MEMORY = re.compile(r"[^\n]*/dev/shm/nccl[^\n]*")
"""The line of NCCL's error when it finds no room for what GPUs of one machine share, some 10 MB each."""

_LOST = (
    "The training has lost the connection to another of its ranks",
    "See the logs of the others: one of them has failed, was stopped, or cannot be reached any more.",
)


@contextmanager
def translated(hint: str) -> Iterator[None]:
    """Translate PyTorch's errors in the block: to DeviceMemoryError, with this hint, if the GPU's memory is full, to
    DeviceError if PyTorch has no machine code for the GPU or the ranks have too little shared memory, and to GroupError
    if the ranks of the training have lost one of them. Other errors pass unchanged.

    Wrap every function that uses the device or waits for it: CUDA reports the errors of earlier calls there. All of
    them are RuntimeErrors; PyTorch has further classes for some, but not for each library's lack of memory.
    """
    try:
        yield
    except RuntimeError as error:
        raise_if_full(error, hint)
        _raise_if_of_group(error, *_LOST)
        if lacks_code(error):
            raise runtime.no_code() from error
        raise


@contextmanager
def translated_group(message: str = _LOST[0], hint: str = _LOST[1]) -> Iterator[None]:
    """Translate the errors of torch.distributed in the block as `translated` does. Other errors pass unchanged.

    message, hint: of a GroupError, which adds PyTorch's words to the message.
    """
    try:
        yield
    except RuntimeError as error:
        _raise_if_of_group(error, message, hint)
        raise


def _raise_if_of_group(error: RuntimeError, message: str, hint: str) -> None:
    """Raise GroupError if an error is one of torch.distributed: it has classes for some, and for others their text.

    Raises DeviceError if NCCL lacks shared memory: no other rank is to blame.
    """
    text = str(error)
    if found := _SHARED_MEMORY.search(text):
        raise DeviceError(
            f"NCCL, which connects the GPUs of this machine, has too little shared memory: {found[0].strip()}.",
            "Give the container more: docker run --shm-size=1g, or shm_size in a Compose file.",
        ) from error
    if type(error).__name__.startswith("Dist") or _GROUP.search(text):
        detail = " ".join(_ADVICE.sub("", _PLACE.sub("", text)).split()).rstrip(".")
        raise GroupError(f"{message}: {detail}.", hint) from error
