"""The memory for requests: each takes its part, and those for whom not enough is left wait in line, or are refused."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from semseg.errors import BusyError, TooLargeError


class Room:
    """Counts the bytes that requests under way may take together."""

    def __init__(self) -> None:
        self._taken = 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int, of: int, until: float) -> Iterator[None]:
        """Hold `size` bytes out of `of` in all, from when others have left enough to the end of the block.

        Who comes first is served first: a large part is not passed by small ones for ever. until: on time.monotonic's
        clock. Raises TooLargeError, with the ways out, when there will never be enough; BusyError at that time.
        """
        if size > of:
            raise TooLargeError(
                f"This request takes {_megabytes(size)} of memory; the server has {_megabytes(of)} for requests.",
                "Ask for the mask with Accept: image/png, send a smaller picture or parts of it, or serve it with more "
                "memory.",
            )
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                if not self._changed.wait_for(
                    lambda: self._line[0] is me and self._taken + size <= of, until - time.monotonic()
                ):
                    raise _full("Others took the memory for this request until its time was over.")
                self._taken += size
            finally:
                self._line.remove(me)
                self._changed.notify_all()
        try:
            yield
        finally:
            self._give_back(size)

    @contextmanager
    def growing(self, of: int) -> Iterator[Callable[[int], None]]:
        """Gives what takes so many more bytes out of `of` in all, without waiting, until the end of the block.

        It raises BusyError when others have left too little, TooLargeError when the part alone exceeds `of`.
        """
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if mine + size > of:
                raise TooLargeError(
                    f"The request's body is larger than the memory for bodies, {_megabytes(of)}.",
                    "Send a smaller picture, or serve it with more memory.",
                )
            with self._changed:
                if self._taken + size > of:
                    raise _full("Other requests' bodies fill the memory for them.")
                self._taken += size
                mine += size

        try:
            yield take
        finally:
            self._give_back(mine)

    def _give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()


def _full(message: str) -> BusyError:
    return BusyError(message, "Ask again later, or serve with more memory.")


def _megabytes(size: int) -> str:
    return f"{-(-size // 10**6):,} MB"
