"""Work done by threads ahead of whoever consumes the results. Pillow releases the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Like `map`, computed by up to `workers` threads at most `ahead` results before they are asked for.

    Threads are capped by the processor's cores; without workers the caller's thread does the work. The error of
    an item is raised in its turn. When the iterator is closed or fails, waiting work is dropped, running work is
    awaited and the threads end.
    """
    if workers <= 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(min(workers, len(os.sched_getaffinity(0))), thread_name_prefix="semseg-data")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
