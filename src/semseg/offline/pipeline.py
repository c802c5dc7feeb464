"""Reads, segments and writes at the same time: threads work before and after the network, which never waits for them.

Order, errors and memory are those of a plain loop: results come in the order of the items, an error belongs to its
item, and no more is in memory than a limit allows, or else one item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from semseg.errors import DiskFullError, UserError, os_reason

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stages(Generic[Item, Prepared, Computed, Result]):
    """What is done with each item: in threads, then by the network in the caller's thread, then in threads again.

    size: the bytes that an item takes until it is finished.
    """

    prepare: Callable[[Item], Prepared]
    compute: Callable[[Prepared], Computed]
    finish: Callable[[Computed], Result]
    size: Callable[[Item], int]


def run(
    stages: Stages[Item, Prepared, Computed, Result], items: Iterable[Item], max_bytes: int, workers: int
) -> Generator[tuple[Item, Result | UserError], None, None]:
    """Yields each item with its result, or with the error that ended it, in order.

    A UserError ends one item, as do an OSError and a MemoryError, which become one; a full disk and all others end the
    run. When the generator is closed or fails, waiting work is dropped, running work is awaited and the threads end.
    """
    line = _Line(stages, workers)
    try:
        for item in items:
            size = stages.size(item)
            while line and (line.held + size > max_bytes or line.is_full()):
                yield from line.advance()
            line.add(item, size)
        while line:
            yield from line.advance()
    finally:
        line.close()


class _Line(Generic[Item, Prepared, Computed, Result]):
    """The items in work: first those that are prepared, then those that are finished."""

    def __init__(self, stages: Stages[Item, Prepared, Computed, Result], workers: int) -> None:
        self._stages = stages
        self._ahead = 2 * workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="semseg-offline")
        self._preparing: deque[tuple[Item, int, Future[Prepared | UserError]]] = deque()
        self._finishing: deque[tuple[Item, int, Future[Result | UserError]]] = deque()
        self.held = 0

    def __bool__(self) -> bool:
        return bool(self._preparing or self._finishing)

    def is_full(self) -> bool:
        """Whether enough items are prepared that the network does not wait."""
        return len(self._preparing) >= self._ahead

    def add(self, item: Item, size: int) -> None:
        self.held += size
        self._preparing.append((item, size, self._pool.submit(_attempt, self._stages.prepare, item)))

    def advance(self) -> Generator[tuple[Item, Result | UserError], None, None]:
        """Yields the oldest item if it is finished, or has to be; else lets the network compute the next one."""
        if self._finishing and (
            self._finishing[0][-1].done() or not self._preparing or len(self._finishing) >= self._ahead
        ):
            item, size, finished = self._finishing.popleft()
            result = finished.result()
            self.held -= size
            yield item, result
            return
        item, size, prepared = self._preparing.popleft()
        ready = prepared.result()
        computed = ready if isinstance(ready, UserError) else _attempt(self._stages.compute, ready)
        self._finishing.append((item, size, self._pool.submit(_attempt, self._stages.finish, computed)))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _attempt(work: Callable[[Item], Result], item: Item | UserError) -> Result | UserError:
    """The result of the work, or the error of it or of the work before it."""
    if isinstance(item, UserError):
        return item
    try:
        return work(item)
    except DiskFullError:
        raise
    except UserError as error:
        return error
    except OSError as error:
        return UserError(f"{os_reason(error)}.")
    except MemoryError:
        return UserError("It does not fit into the memory.", "Give a smaller image, or use a machine with more memory.")
