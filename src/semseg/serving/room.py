"""The memory for pictures and answers: a request takes its part before decoding and may have to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from semseg.errors import TooLargeError


class Room:
    """Counts the bytes that requests under way may take together."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int, of: int) -> Iterator[None]:
        """Hold `size` bytes out of `of` in all, from when others have left enough to the end of the block.

        Raises TooLargeError, with the ways out, when there will never be enough.
        """
        if size > of:
            raise TooLargeError(
                f"This request takes {_megabytes(size)} of memory; the server has {_megabytes(of)} for requests.",
                "Ask for the mask with Accept: image/png, send a smaller picture or parts of it, or serve it with more "
                "memory.",
            )
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= of)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


def _megabytes(size: int) -> str:
    return f"{-(-size // 10**6):,} MB"
