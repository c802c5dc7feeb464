"""Recognises what engines report of a GPU, whose libraries word it alike below every engine."""

from __future__ import annotations

import re
import traceback

from semseg.errors import DeviceMemoryError

TRAINING_HINT = (
    "Lower mini_batch_size or crop_size (for validation: validation_mini_batch_size, but not to 1, which processes "
    "whole images), or use an instance whose GPU has more memory."
)
SERVING_HINT = (
    "Send a smaller image, set or lower SEMSEG_MAX_TILE_PIXELS, or serve on an instance whose GPU has more memory."
)
"""The ways out of a full GPU."""

_OUT_OF_MEMORY = re.compile(
    r"out[ _]of[ _]memory|_ALLOC(?:ATION)?_FAILED"
    # cuDNN, when none of its algorithms gets the memory that it works in
    r"|unable to find a valid cuDNN algorithm|unable to find an engine to execute",
    re.IGNORECASE,
)
"""The wording of CUDA, cuDNN, cuBLAS, cuSOLVER and cuRAND; engines report a lack of host memory in other words."""

_NO_CODE = "no kernel image is available"


def raise_if_full(error: Exception, hint: str) -> None:
    """Raise DeviceMemoryError, with this hint, if an engine's error says that the GPU's memory is full.

    The frames of that error let go of what they hold, which may be all activations of the failed call.
    """
    if _OUT_OF_MEMORY.search(str(error)):
        traceback.clear_frames(error.__traceback__)
        raise DeviceMemoryError("The GPU's memory is too small.", hint) from error


def lacks_code(error: Exception) -> bool:
    """Return whether an engine's error says that it has no machine code for the GPU."""
    return _NO_CODE in str(error)
