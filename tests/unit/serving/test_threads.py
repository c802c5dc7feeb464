from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from semseg.serving.threads import PatientThreads

MOST = 4


@pytest.fixture
def pool() -> Iterator[PatientThreads]:
    with PatientThreads(MOST) as pool:
        yield pool


@contextmanager
def no_thread_to_be_had() -> Iterator[None]:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def all_run_at_once(pool: PatientThreads, number: int) -> bool:
    """Whether `number` further calls each get their own thread: none would end if one had to wait for another."""
    together = threading.Barrier(number + 1)
    calls = [pool.submit(together.wait, 60) for _ in range(number)]
    together.wait(60)
    return {call.result(60) for call in calls} <= set(range(number + 1))


def test_without_any_thread_calls_wait_until_there_is_one(pool: PatientThreads) -> None:
    with no_thread_to_be_had():
        calls = [pool.submit(int, number) for number in "012"]
        assert not pool.catch_up()
    assert not any(call.done() for call in calls)
    assert pool.catch_up()
    assert [call.result(60) for call in calls] == [0, 1, 2]
    assert all_run_at_once(pool, MOST)


def test_calls_wait_for_a_busy_thread_until_another_can_be_had(pool: PatientThreads) -> None:
    go = threading.Event()
    busy = pool.submit(go.wait, 60)
    with no_thread_to_be_had():
        waiting = pool.submit(int, "5")
        assert not pool.catch_up()
    assert not waiting.done()
    assert pool.catch_up()
    assert waiting.result(60) == 5
    assert not busy.done()
    assert all_run_at_once(pool, MOST - 1)
    go.set()


def test_a_thread_that_is_free_again_runs_what_waited_and_all_is_as_before(pool: PatientThreads) -> None:
    """Calls that it took over must not count, or later calls would wait for a thread that seems idle."""
    go = threading.Event()
    pool.submit(go.wait, 60)
    with no_thread_to_be_had():
        waiting = [pool.submit(int, "5") for _ in range(10)]
        go.set()
        assert [call.result(60) for call in waiting] == [5] * 10
    assert pool.catch_up()
    assert all_run_at_once(pool, MOST)


def test_what_a_call_raises_is_its_own_affair(pool: PatientThreads) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        pool.submit(int, "five").result(60)
