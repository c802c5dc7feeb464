"""The ranks of this host: starts their processes, takes their reports, and notices what happens to them."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from semseg.machine import is_stopped
from semseg.training.failures import DIED, Failure
from semseg.training.feed import Feed, connected
from semseg.training.rank import ENDED, FAILED, HELD, LARGEST_REPORT, STOPPED, RankTask, main

STOPPED_SECONDS = 45.0
"""How long a rank may be stopped (SIGSTOP) before the training fails."""

_KILLED_SECONDS = 10.0
"""How long a killed process may take to end: one that waits inside the kernel, for a driver or a network's file system,
may never do."""


class LocalRank:
    """A rank's process. report: what it has reported last, [kind, value]; None before."""

    def __init__(self, task: RankTask, listener: socket.socket | None, feed: Feed) -> None:
        self.task = task
        self.report: tuple[str, Any] | None = None
        self._stopped_since: float | None = None
        self._terminated = False
        spawn = multiprocessing.get_context("spawn")
        self._reports, reports = spawn.Pipe(duplex=False)
        self._process: BaseProcess = spawn.Process(target=main, args=(task, listener, reports, feed), name=task.name)
        with reports:
            self._process.start()

    @property
    def waited_for(self) -> list[Connection | int]:
        """What becomes ready when there is something to `poll`."""
        ended = self._process.exitcode is not None
        return [] if ended else [self._process.sentinel, *([] if self._reports.closed else [self._reports])]

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self._process.exitcode is not None

    @property
    def has_ended_well(self) -> bool:
        """Whether its process has ended, with a report of success or of a stop."""
        return self.has_ended and self.report is not None and self.report[0] in (ENDED, STOPPED)

    def poll(self) -> Failure | None:
        """Takes its reports; returns a failure, but none of one that was killed by `kill`."""
        ended = self.has_ended  # before its last report is taken
        self._take_reports()
        if self.report and self.report[0] == FAILED:
            return Failure.from_json(self.report[1])
        if ended:
            return None if self.report and self.report[0] in (ENDED, STOPPED) else self._died()
        return self._found_stopped()

    def terminate(self) -> None:
        """Sends SIGTERM, once."""
        if not self._terminated:
            self._terminated = True
            self._process.terminate()

    def kill(self) -> None:
        """Ends the process at once, also one that is stopped, and waits for its end."""
        self._process.kill()
        self._process.join(_KILLED_SECONDS)
        self._reports.close()

    def _take_reports(self) -> None:
        try:
            while not self._reports.closed and self._reports.poll():
                kind, value = json.loads(self._reports.recv_bytes(LARGEST_REPORT))
                self.report = kind, value
        except (EOFError, OSError):  # the process has ended
            self._reports.close()

    def _died(self) -> Failure:
        code = self._process.exitcode or 0
        if code >= 0:
            return Failure(DIED, f"{self.task.name} ended with exit code {code}, without a reason: a library ended it.")
        memory = "for lack of memory: lower _workers, or use a machine with more"
        reason = memory if -code == signal.SIGKILL else "by a library"
        return Failure(DIED, f"{self.task.name} was killed by {signal.Signals(-code).name}, perhaps {reason}.")

    def _found_stopped(self) -> Failure | None:
        pid = self._process.pid
        if not pid or not is_stopped(pid):
            self._stopped_since = None
            return None
        self._stopped_since = self._stopped_since or time.monotonic()
        if time.monotonic() - self._stopped_since < STOPPED_SECONDS:
            return None
        return Failure(DIED, f"{self.task.name}, the process {pid}, has been stopped for {STOPPED_SECONDS:g} s.")


@contextmanager
def local_ranks(tasks: Sequence[RankTask], listener: socket.socket | None) -> Iterator[list[LocalRank]]:
    """Yields the started ranks of this host; listener: for the first one. None of them outlives the block."""
    ranks: list[LocalRank] = []
    try:
        with connected([task.name for task in tasks]) as feeds, _signals_held():
            ranks.extend(
                LocalRank(task, listener if task.membership.rank == 0 else None, feed)
                for task, feed in zip(tasks, feeds, strict=True)
            )
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Has the processes that are started in the block hold back the signals HELD until they handle them, see `main`.

    The terminal sends SIGINT to them too, and it would end them while they are still importing.
    """
    resource_tracker.ensure_running()  # or the first start would start it, and then let the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
