"""Groups whose ranks are threads of this process, for tests of what ranks agree on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from semseg.errors import GroupError

Result = TypeVar("Result")

SECONDS = 30
"""The longest wait for the other threads: a test that fails does not hang."""


class ThreadGroup:
    """One of `size` ranks that share a barrier and a list of what each has brought."""

    def __init__(self, rank: int, barrier: threading.Barrier, brought: list[Any]) -> None:
        self.rank, self.size = rank, barrier.parties
        self._barrier, self._brought = barrier, brought

    def any(self, flag: bool) -> bool:
        return any(self._gathered(flag))

    def sum(self, array: Any) -> Any:
        assert array.dtype in (np.int64, np.float64)
        arrays = self._gathered(array.copy())
        assert len({(one.shape, one.dtype) for one in arrays}) == 1
        return sum(arrays[1:], arrays[0])

    def barrier(self) -> None:
        self._wait()

    def leave(self) -> None:
        self._barrier.abort()

    def _gathered(self, value: Any) -> list[Any]:
        """What each rank has brought to this meeting, by rank."""
        self._brought[self.rank] = value
        self._wait()
        gathered = list(self._brought)
        self._wait()
        return gathered

    def _wait(self) -> None:
        try:
            self._barrier.wait(SECONDS)
        except threading.BrokenBarrierError as error:
            raise GroupError("Another rank has failed.") from error


def as_ranks(size: int, work: Callable[[ThreadGroup], Result]) -> list[Result]:
    """Runs the work once for each rank, in threads; returns the results by rank, or raises the first rank's error."""
    barrier, brought = threading.Barrier(size), [None] * size

    def rank(number: int) -> Result:
        group = ThreadGroup(number, barrier, brought)
        try:
            return work(group)
        except BaseException:
            group.leave()  # or the others would wait for it
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(rank, number) for number in range(size)]]
