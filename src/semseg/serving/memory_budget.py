"""The memory for requests: each reserves its part, and those for which too little is left wait, or are refused."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from semseg.errors import BusyError, TooLargeError

_BODIES = 4
"""One part in so many of the memory is for bodies, the rest for images and responses. Were they one, bodies could fill
it, each waiting for memory to be decoded."""


class MemoryBudget:
    """The memory that the requests of one process may take together, whichever model they are for."""

    def __init__(self, size: int = sys.maxsize) -> None:
        """size: bytes, more than any machine has until a model is loaded."""
        self._size = size
        self.bodies, self.images = Reservations(0), Reservations(0)
        self.lower_to(size)

    def lower_to(self, size: int) -> None:
        """Let requests take no more than `size` bytes, those that a loaded model leaves; never raises the budget."""
        self._size = min(self._size, size)
        self.bodies.limit = self._size // _BODIES
        self.images.limit = self._size - self.bodies.limit


@dataclass(eq=False)
class _Reservation:
    """The bytes that one request holds, or waits for."""

    size: int
    held: bool = False


class Reservations:
    """Counts the bytes that requests under way take together; `limit`: the most that they may."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._reservations: dict[_Reservation, None] = {}  # held and waiting, in the order in which they came
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int, until: float) -> Iterator[None]:
        """Hold `size` bytes, from when others have left enough to the end of the block.

        A reservation that does not fit yet is passed by those that do, as long as it waits for earlier ones anyway:
        see `_admit`. until: on time.monotonic's clock. Raises TooLargeError, with the ways out, if there will never be
        enough; BusyError at that time.
        """
        if size > self.limit:
            raise TooLargeError(
                f"This request takes {_megabytes(size)} of memory; the server has {_megabytes(self.limit)} for "
                "requests.",
                "Ask for the mask with Accept: image/png, send a smaller picture or parts of it, or serve it with more "
                "memory.",
            )
        mine = _Reservation(size)
        with self._changed:
            self._reservations[mine] = None
            self._admit()
            if not self._changed.wait_for(lambda: mine.held, until - time.monotonic()):
                self._remove(mine)
                raise _full("Others took the memory for this request until its time was over.")
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._remove(mine)

    def _admit(self) -> None:
        """Hand the free bytes to those that wait, in the order in which they came.

        A reservation that does not fit may be passed as long as those that came before it are in its way: it would
        wait anyway. Once only those that passed it are, nobody else passes: when they have left, it fits. So the small
        do not wait for the large, nor the large for ever.
        """
        earlier = 0
        for one in self._reservations:
            if not one.held and self._taken + one.size <= self.limit:
                one.held = True
                self._taken += one.size
                self._changed.notify_all()
            if one.held:
                earlier += one.size
            elif earlier + one.size <= self.limit:
                return

    def _remove(self, one: _Reservation) -> None:
        del self._reservations[one]
        self._admit()

    @contextmanager
    def growing(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that takes so many more bytes, without waiting, until the end of the block.

        It raises BusyError when others have left too little, TooLargeError when the request alone exceeds the limit.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if mine + size > self.limit:
                raise TooLargeError(
                    f"The request's body is larger than the memory for bodies, {_megabytes(self.limit)}.",
                    "Send a smaller picture, or serve it with more memory.",
                )
            with self._changed:
                if self._taken + size > self.limit:
                    raise _full("Other requests' bodies fill the memory for them.")
                self._taken += size
                mine += size

        try:
            yield take
        finally:
            with self._changed:
                self._taken -= mine
                self._admit()


def _full(message: str) -> BusyError:
    return BusyError(message, "Ask again later, or serve with more memory.")


def _megabytes(size: int) -> str:
    return f"{-(-size // 10**6):,} MB"
