"""Counts function calls, a measure of work that does not depend on how busy the machine is."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from types import FrameType


def counted_calls(call: Callable[[], object], *errors: type[Exception]) -> int:
    """The number of Python and C function calls until `call` returns or raises one of the errors."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # it would call what removes the objects of earlier tests
    sys.setprofile(note)
    try:
        with contextlib.suppress(*errors):
            call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count
