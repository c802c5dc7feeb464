"""Repeats a call while the server is busy, as long as there is time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from semseg.errors import BusyError

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
"""Seconds between calls if the server gives no longer time: doubled from one to the next."""

_SPREAD = 0.25
"""The largest part of a wait that is added to it at random, so that clients do not all come back at the same time."""


def until_served(
    call: Callable[[float], T],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `call` returns, called with the seconds left; after BusyError it is called again.

    It waits as long as the error says, and longer from one time to the next. Raises the BusyError once the `seconds`
    would not suffice for another call.
    """
    until, pause = clock() + seconds, _FIRST_WAIT
    while True:
        try:
            return call(until - clock())
        except BusyError as busy:
            wait = max(busy.retry_after, pause) * (1 + random.uniform(0, _SPREAD))  # noqa: S311 - no secret
            if clock() + wait >= until:
                hint = f"{busy.hint} It was tried for {seconds:.3g} s; wait longer with a higher timeout.".strip()
                raise BusyError(busy.message, hint, busy.retry_after) from busy
            sleep(wait)
            pause = min(2 * pause, _LONGEST_WAIT)
