"""Work done by threads ahead of whoever consumes the results. Pillow releases the interpreter's lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

READERS = 16
"""Threads that wait for disks and networks; they need no core."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int,
    size: Callable[[Result], int] = lambda _: 0,
    max_bytes: int = 0,
) -> Generator[Result, None, None]:
    """Like `map`, computed by up to `workers` threads at most `ahead` results before they are asked for.

    size: the bytes of a result. No more is begun while `max_bytes` are held, where each result that is still to come
    counts as the latest that came; one result, however large, always may be.

    Without workers the caller's thread does the work. The error of an item is raised in its turn. When the iterator
    is closed or fails, waiting work is dropped, running work is awaited and the threads end.
    """
    if workers <= 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="semseg-data")
    pending: deque[Future[Result]] = deque()
    lock, held, coming, latest = threading.Lock(), 0, 0, max_bytes // workers

    def work(item: Item) -> Result:
        nonlocal held, coming, latest
        result = function(item)
        with lock:
            latest = size(result)
            held, coming = held + latest, coming - 1
        return result

    def take() -> Result:
        nonlocal held
        result = pending.popleft().result()
        with lock:
            held -= size(result)
        return result

    try:
        for item in items:
            with lock:
                coming += 1
            pending.append(pool.submit(work, item))
            while len(pending) > ahead or held + coming * latest > max_bytes:
                yield take()
        while pending:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(
    produce: Callable[[Callable[[], bool]], Generator[Item, None, None]],
    size: Callable[[Item], int],
    max_bytes: int,
    max_items: int,
) -> Generator[Item, None, None]:
    """What `produce` yields, in order, taken by a thread of its own whether or not it is asked for.

    produce: is given a function that says whether the consumer has left; it must look at it while it waits.
    size: the bytes of an item. At most `max_bytes` and `max_items`, or one item however large, wait for the consumer,
    and one more is in the thread's hands.

    An error of `produce` is raised when all before it has been taken. The thread starts with the first item asked
    for. When the iterator is closed, `produce` is closed and the thread has ended.
    """
    shelf = _Shelf(size, max_bytes, max_items)
    thread = threading.Thread(target=shelf.fill, args=(produce,), name="semseg-data-ahead", daemon=True)
    thread.start()
    try:
        yield from shelf.empty()
    finally:
        shelf.leave()
        thread.join()


class _Shelf(Generic[Item]):
    """Where the thread puts what the consumer takes."""

    def __init__(self, size: Callable[[Item], int], max_bytes: int, max_items: int) -> None:
        self._size = size
        self._bytes_left = max_bytes
        self._max_items = max_items
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._consumer_left = False
        self._filled = False
        self._error: BaseException | None = None

    def fill(self, produce: Callable[[Callable[[], bool]], Generator[Item, None, None]]) -> None:
        """The life of the thread."""
        try:
            with closing(produce(lambda: self._consumer_left)) as items:
                for item in items:
                    if not self._put(item):
                        break
        except BaseException as error:  # whatever it is, the consumer is told
            self._error = error
        with self._changed:
            self._filled = True
            self._changed.notify_all()

    def empty(self) -> Generator[Item, None, None]:
        """What the consumer is given, to the end or the error."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._filled)
                if not self._items:
                    break
                item = self._items.popleft()
                self._bytes_left += self._size(item)
                self._changed.notify_all()
            yield item
        if self._error:
            raise self._error

    def leave(self) -> None:
        """The consumer takes no more."""
        with self._changed:
            self._consumer_left = True
            self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        """Wait for room and put the item there; False if nobody is left to take it."""
        size = self._size(item)
        with self._changed:
            self._changed.wait_for(lambda: self._consumer_left or self._has_room(size))
            self._items.append(item)
            self._bytes_left -= size
            self._changed.notify_all()
            return not self._consumer_left

    def _has_room(self, size: int) -> bool:
        return not self._items or (size <= self._bytes_left and len(self._items) < self._max_items)
