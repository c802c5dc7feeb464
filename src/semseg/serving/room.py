"""The memory for requests: each takes its part, and those for whom not enough is left wait, or are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from semseg.errors import BusyError, TooLargeError


@dataclass(eq=False)
class _Part:
    """The bytes that one request holds, or waits for, out of `of` in all."""

    size: int
    of: int
    held: bool = False


class Room:
    """Counts the bytes that requests under way may take together."""

    def __init__(self) -> None:
        self._taken = 0
        self._parts: dict[_Part, None] = {}  # held and waiting, in the order in which they came
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int, of: int, until: float) -> Iterator[None]:
        """Hold `size` bytes out of `of` in all, from when others have left enough to the end of the block.

        A part that does not fit yet is passed by those that do, as long as it waits for earlier ones anyway: see
        `_admit`. until: on time.monotonic's clock. Raises TooLargeError, with the ways out, when there will never be
        enough; BusyError at that time.
        """
        if size > of:
            raise TooLargeError(
                f"This request takes {_megabytes(size)} of memory; the server has {_megabytes(of)} for requests.",
                "Ask for the mask with Accept: image/png, send a smaller picture or parts of it, or serve it with more "
                "memory.",
            )
        part = _Part(size, of)
        with self._changed:
            self._parts[part] = None
            self._admit()
            if not self._changed.wait_for(lambda: part.held, until - time.monotonic()):
                self._remove(part)
                raise _full("Others took the memory for this request until its time was over.")
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._remove(part)

    def _admit(self) -> None:
        """Hand the free bytes to those that wait, in the order in which they came.

        A part that does not fit may be passed as long as parts that came before it are in its way: it would wait
        anyway. Once only those that passed it are, nobody else passes: when they have left, it fits. So the small do
        not wait for the large, nor the large for ever.
        """
        earlier = 0
        for part in self._parts:
            if not part.held and self._taken + part.size <= part.of:
                part.held = True
                self._taken += part.size
                self._changed.notify_all()
            if part.held:
                earlier += part.size
            elif earlier + part.size <= part.of:
                return

    def _remove(self, part: _Part) -> None:
        del self._parts[part]
        self._admit()

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
            with self._changed:
                self._taken -= mine
                self._admit()


def _full(message: str) -> BusyError:
    return BusyError(message, "Ask again later, or serve with more memory.")


def _megabytes(size: int) -> str:
    return f"{-(-size // 10**6):,} MB"
