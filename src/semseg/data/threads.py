"""Threads that compute results ahead of their consumer. Pillow releases the interpreter's lock while it decodes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

READERS = 16
"""The number of threads that wait for disks and networks; they need no core."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int,
    size: Callable[[Result], int] = lambda _: 0,
    max_bytes: int = 0,
    leave: Callable[[], object] = lambda: None,
) -> Generator[Result, None, None]:
    """Like `map`, but up to `workers` threads compute at most `ahead` results before they are requested.

    size: the bytes of a result. No more work is started while the results hold `max_bytes`, where each pending result
    counts as much as the last one that was computed; a single result may have any size.

    Without workers the caller's thread does the work. The error of an item is raised in place of its result. When the
    iterator is closed or fails, waiting work is dropped, `leave` is called, running work, which may end early then, is
    awaited and the threads end.
    """
    if workers <= 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="semseg-data")
    pending: deque[Future[Result]] = deque()
    lock, held, unfinished, latest = threading.Lock(), 0, 0, max_bytes // workers

    def work(item: Item) -> Result:
        nonlocal held, unfinished, latest
        result = function(item)
        with lock:
            latest = size(result)
            held, unfinished = held + latest, unfinished - 1
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
                unfinished += 1
            pending.append(pool.submit(work, item))
            while len(pending) > ahead or held + unfinished * latest > max_bytes:
                yield take()
        while pending:
            yield take()
    except BaseException:
        leave()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(
    produce: Callable[[Callable[[], bool]], Generator[Item, None, None]],
    size: Callable[[Item], int],
    max_bytes: int,
    max_items: int,
) -> Generator[Item, None, None]:
    """Yield what `produce` yields, in order, computed by a separate thread ahead of the consumer.

    produce: its argument is a function that returns whether the consumer has left; it must be called while waiting.
    size: the bytes of an item. At most `max_bytes` and `max_items`, or one item of any size, wait for the consumer;
    the thread holds one more.

    An error of `produce` is raised after all items before it. The thread starts when the first item is requested.
    When the iterator is closed, `produce` is closed and the thread ends.
    """
    queue = _AheadQueue(size, max_bytes, max_items)
    thread = threading.Thread(target=queue.produce, args=(produce,), name="semseg-data-ahead", daemon=True)
    thread.start()
    try:
        yield from queue.items()
    finally:
        queue.leave()
        thread.join()


class _AheadQueue(Generic[Item]):
    """A queue between the producing thread and the consumer, limited in bytes and items."""

    def __init__(self, size: Callable[[Item], int], max_bytes: int, max_items: int) -> None:
        self._size = size
        self._bytes_left = max_bytes
        self._max_items = max_items
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._consumer_left = False
        self._finished = False
        self._error: BaseException | None = None

    def produce(self, produce: Callable[[Callable[[], bool]], Generator[Item, None, None]]) -> None:
        """Put all items; the main function of the thread."""
        try:
            with closing(produce(lambda: self._consumer_left)) as items:
                for item in items:
                    if not self._put(item):
                        break
        except BaseException as error:  # raised in the consumer
            self._error = error
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def items(self) -> Generator[Item, None, None]:
        """The items, until the end or the error."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished)
                if not self._items:
                    break
                item = self._items.popleft()
                self._bytes_left += self._size(item)
                self._changed.notify_all()
            yield item
        if self._error:
            raise self._error

    def leave(self) -> None:
        """End the production: the consumer takes no more."""
        with self._changed:
            self._consumer_left = True
            self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        """Wait for space and put the item; returns whether the consumer is still there."""
        size = self._size(item)
        with self._changed:
            self._changed.wait_for(lambda: self._consumer_left or self._fits(size))
            self._items.append(item)
            self._bytes_left -= size
            self._changed.notify_all()
            return not self._consumer_left

    def _fits(self, size: int) -> bool:
        return not self._items or (size <= self._bytes_left and len(self._items) < self._max_items)
