from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from semseg.data.threads import map_in_order


def data_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("semseg-data")]


@pytest.mark.parametrize("workers", [-1, 0, 1, 2, 64])
@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
def test_results_come_in_order(workers: int, ahead: int) -> None:
    assert list(map_in_order(lambda x: x * x, range(30), workers, ahead)) == [x * x for x in range(30)]
    assert not data_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_no_items_no_results(workers: int) -> None:
    assert list(map_in_order(str, [], workers, 4)) == []


def test_no_more_is_taken_than_asked_for_and_some_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_in_order(str, items(), 2, ahead=6)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(taken) == 9
    results.close()


def test_workers_work_at_the_same_time() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    meeting = threading.Barrier(2, timeout=30)
    assert len(list(map_in_order(lambda _: meeting.wait(), range(2), 2, ahead=2))) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_in_its_turn_and_ends_the_threads(workers: int) -> None:
    results = map_in_order(lambda x: 1 // x, [2, 1, 0, 1], workers, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not data_threads()


def test_closing_early_drops_waiting_work_and_ends_the_threads() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(item: int) -> None:
        if item:
            assert gate.wait(30)
        done.append(item)

    results = map_in_order(work, range(1000), 2, ahead=900)
    next(results)
    gate.set()
    results.close()
    assert not data_threads()
    assert len(done) < 1000
