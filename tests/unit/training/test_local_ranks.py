from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from multiprocessing import connection, spawn
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from semseg.training.feed import Feed
from semseg.training.local_ranks import LocalRank, _signals_held

ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def test_signals_wait_until_a_process_handles_them() -> None:
    """Ctrl-C at a terminal reaches the ranks too, perhaps while they import. Here the first start starts more."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    with _signals_held():
        process.start()
    try:
        status = Path(f"/proc/{process.pid}/status").read_text().split()
        blocked = int(status[status.index("SigBlk:") + 1], 16)
        assert {number for number in ENDING if blocked >> (number - 1) & 1} == ENDING
        assert ENDING.isdisjoint(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    finally:
        process.kill()
        process.join(30)


def test_a_process_that_cannot_even_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits inside the kernel; the failure is to be written all the same."""
    waits: list[float] = []

    class Stuck:
        def __init__(self, **_: Any) -> None:
            pass

        def start(self) -> None:
            pass

        def kill(self) -> None:
            pass

        def join(self, seconds: float = math.inf) -> None:
            waits.append(seconds)

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", Stuck, raising=False)
    task: Any = SimpleNamespace(name="Rank 0 of 2 (on algo-1)")
    LocalRank(task, None, Feed((task.name,))).kill()
    assert len(waits) == 1
    assert waits[0] < 60


def test_a_rank_that_ends_before_it_has_read_its_task_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task may be larger than a pipe holds."""
    monkeypatch.setattr(spawn, "get_executable", lambda: b"/bin/true")
    task: Any = SimpleNamespace(name="Rank 0 of 2 (on algo-1)", pairs="x" * (1 << 20))
    started: list[LocalRank] = []
    starting = threading.Thread(target=lambda: started.append(LocalRank(task, None, Feed((task.name,)))), daemon=True)
    starting.start()
    starting.join(30)
    (rank,) = started
    try:
        while not (failure := rank.poll()):
            connection.wait(rank.waited_for, 30)
    finally:
        rank.kill()
    assert failure.message.startswith("Rank 0 of 2 (on algo-1) ended with exit code 0, without a reason")
