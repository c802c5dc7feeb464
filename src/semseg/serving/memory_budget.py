"""Limits the memory that requests take: each reserves its bytes first, and waits or is refused if too few are left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from semseg.errors import BusyError, TooLargeError

_BODIES_DIVISOR = 4
"""A quarter of the memory is for bodies, the rest for images and responses. With one pool for both, bodies could fill
it, each waiting for memory to be decoded."""


class MemoryBudget:
    """The memory that the requests of one process share, for all models."""

    def __init__(self, size: int = sys.maxsize) -> None:
        """size: bytes; the default, more than any machine has, holds until a model is loaded."""
        self._size = size
        self.bodies, self.images = Reservations(0), Reservations(0)
        self.lower_to(size)

    def lower_to(self, size: int) -> None:
        """Limit requests to the `size` bytes that a loaded model leaves; never raises the budget."""
        self._size = min(self._size, size)
        self.bodies.limit = self._size // _BODIES_DIVISOR
        self.images.limit = self._size - self.bodies.limit


@dataclass(eq=False)
class _Reservation:
    """The bytes that one request holds or waits for."""

    size: int
    held: bool = False


class Reservations:
    """Counts the bytes that concurrent requests hold; `limit`: the most that they may hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._reservations: dict[_Reservation, None] = {}  # held and waiting, in the order in which they came
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int, until: float) -> Iterator[None]:
        """Wait for `size` bytes, and hold them until the end of the block.

        Later reservations that fit may be admitted first, within bounds: see `_admit`. until: the deadline, on
        time.monotonic's clock. Raises TooLargeError if `size` exceeds the limit; BusyError at the deadline.
        """
        if size > self.limit:
            raise TooLargeError(
                f"This request takes {_megabytes(size)} of memory; the server has {_megabytes(self.limit)} for "
                "requests.",
                "Ask for the mask with Accept: image/png, send a smaller image or parts of it, or serve with more "
                "memory.",
            )
        mine = _Reservation(size)
        with self._changed:
            self._reservations[mine] = None
            self._admit()
            if not self._changed.wait_for(lambda: mine.held, until - time.monotonic()):
                self._remove(mine)
                raise _full("Other requests took the memory for this one until its time was over.")
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._remove(mine)

    def _admit(self) -> None:
        """Give the free bytes to waiting reservations, in the order in which they came.

        One that does not fit may be overtaken as long as earlier ones block it, because it would wait anyway. Once only
        later ones that overtook it are in its way, no others overtake it. So small reservations do not wait for a large
        one, and a large one does not wait for ever.
        """
        earlier = 0
        for reservation in self._reservations:
            if not reservation.held and self._taken + reservation.size <= self.limit:
                reservation.held = True
                self._taken += reservation.size
                self._changed.notify_all()
            if reservation.held:
                earlier += reservation.size
            elif earlier + reservation.size <= self.limit:
                return

    def _remove(self, reservation: _Reservation) -> None:
        del self._reservations[reservation]
        self._admit()

    @contextmanager
    def growing(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes a further number of bytes, without waiting, until the end of the block.

        It raises BusyError when others hold too much, TooLargeError when this request alone exceeds the limit.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if mine + size > self.limit:
                raise TooLargeError(
                    f"The request's body is larger than the memory for bodies, {_megabytes(self.limit)}.",
                    "Send a smaller image, or serve with more memory.",
                )
            with self._changed:
                if self._taken + size > self.limit:
                    raise _full("Other requests' bodies fill the memory for bodies.")
                self._taken += size
                mine += size

        try:
            yield take
        finally:
            with self._changed:
                self._taken -= mine
                self._admit()


def _full(message: str) -> BusyError:
    return BusyError(message, "Try again later, or serve with more memory.")


def _megabytes(size: int) -> str:
    return f"{-(-size // 10**6):,} MB"
