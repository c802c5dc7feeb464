"""What the training loop measures: the time since the last checkpoint, and the time spent waiting for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from semseg.training.progress import Progress

Item = TypeVar("Item")


class ProgressSaver:
    """Saves a run's progress, at the latest every `seconds`, which bounds the work that a crash can lose."""

    def __init__(self, save: Callable[[Progress], None], seconds: float) -> None:
        self._save = save
        self._seconds = seconds
        self._saved: Progress | None = None
        self._since = time.perf_counter()

    def is_due(self) -> bool:
        """Whether the last save was at least `seconds` ago."""
        return time.perf_counter() - self._since >= self._seconds

    def save(self, progress: Progress) -> None:
        """Saves the progress, unless it was the last one saved."""
        if progress is not self._saved:
            self._save(progress)
        self._saved = progress
        self._since = time.perf_counter()


class Clock:
    """Measures the seconds of an epoch's training, and those spent `waiting` for batches."""

    def __init__(self, progress: Progress) -> None:
        self._start = time.perf_counter() - progress.seconds
        self.waiting = progress.waiting

    def seconds(self) -> float:
        """Returns the seconds so far."""
        return time.perf_counter() - self._start

    def timing(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yields the items, and measures the time spent waiting for each."""
        while True:
            begin = time.perf_counter()
            item = next(items, None)
            self.waiting += time.perf_counter() - begin
            if item is None:
                return
            yield item
