from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from itertools import count

import pytest

from semseg.data.threads import map_in_order, read_ahead


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


@pytest.mark.parametrize(("max_bytes", "more"), [(45, 5), (10, 1), (9, 1)])
def test_no_more_bytes_are_held_than_allowed_or_one_result(max_bytes: int, more: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    with closing(map_in_order(str, items(), 3, 90, lambda _: 10, max_bytes)) as results:
        for number, result in enumerate(results):
            assert result == str(number)
            assert len(taken) <= number + 1 + more
    assert number == 99


@pytest.mark.parametrize("workers", [0, 2, 16])
def test_results_of_any_size_come_in_order(workers: int) -> None:
    sizes = [*range(20), 1000, *range(20), 0, 1000, 1000]
    assert list(map_in_order(lambda x: x, sizes, workers, 8, lambda x: x, 50)) == sizes


def test_workers_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)
    assert len(list(map_in_order(lambda _: meeting.wait(), range(2), 2, ahead=2))) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_in_its_turn_and_ends_the_threads(workers: int) -> None:
    results = map_in_order(lambda x: 1 // x, [2, 1, 0, 1], workers, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not data_threads()


def test_closing_early_drops_waiting_work_and_ends_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that waits is dropped before the gate opens for the work under way."""
    done: list[int] = []
    gate = threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def cancel_first(pool: ThreadPoolExecutor, cancel_futures: bool = False) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        gate.set()
        shutdown(pool)

    def work(item: int) -> None:
        if item:
            assert gate.wait(30)
        done.append(item)

    results = map_in_order(work, range(1000), 2, ahead=900)
    next(results)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", cancel_first)
    results.close()
    assert not data_threads()
    assert len(done) <= 3


Cancelled = Callable[[], bool]


class TestReadAhead:
    @pytest.mark.parametrize(("max_bytes", "max_items"), [(0, 1), (10, 100), (10**6, 1), (10**6, 100)])
    def test_all_items_come_in_order(self, max_bytes: int, max_items: int) -> None:
        def produce(_: Cancelled) -> Generator[int, None, None]:
            yield from range(200)

        assert list(read_ahead(produce, lambda item: item, max_bytes, max_items)) == list(range(200))
        assert not data_threads()

    def test_items_are_produced_before_they_are_taken(self) -> None:
        all_produced = threading.Event()

        def produce(_: Cancelled) -> Generator[int, None, None]:
            yield from range(100)
            all_produced.set()

        items = read_ahead(produce, lambda _: 1, 1000, 1000)
        assert next(items) == 0
        assert all_produced.wait(30)
        assert list(items) == list(range(1, 100))

    def test_nothing_is_produced_before_the_first_is_asked_for(self) -> None:
        begun = threading.Event()

        def produce(_: Cancelled) -> Generator[int, None, None]:
            begun.set()
            yield 0

        items = read_ahead(produce, lambda _: 1, 10, 10)
        assert not data_threads()
        items.close()
        assert not begun.is_set()

    @pytest.mark.parametrize(("max_bytes", "max_items"), [(39, 1000), (1000, 3)])
    def test_no_more_than_allowed_wait(self, max_bytes: int, max_items: int) -> None:
        produced: list[int] = []
        another = threading.Semaphore(0)

        def produce(_: Cancelled) -> Generator[int, None, None]:
            for item in range(1000):
                produced.append(item)
                another.release()
                yield item

        with closing(read_ahead(produce, lambda _: 10, max_bytes, max_items)) as items:
            for taken in range(1, 50):
                next(items)
                while len(produced) < taken + 4:  # three wait, one is in the thread's hands
                    assert another.acquire(timeout=30)
                assert len(produced) == taken + 4

    def test_an_error_is_raised_in_its_turn(self) -> None:
        def produce(_: Cancelled) -> Generator[int, None, None]:
            yield from (1, 2)
            raise KeyError("three")

        items = read_ahead(produce, lambda _: 1, 10, 10)
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(KeyError, match="three"):
            next(items)
        assert not data_threads()

    @pytest.mark.parametrize("max_items", [1, 1000], ids=["full", "waiting for data"])
    def test_closing_stops_and_closes_the_producer(self, max_items: int) -> None:
        closed: list[int] = []

        def produce(cancelled: Cancelled) -> Generator[int, None, None]:
            try:
                yield from range(10)
                while not cancelled():
                    threading.Event().wait(0.01)
            finally:
                closed.append(threading.get_ident())

        items = read_ahead(produce, lambda _: 1, 1000, max_items)
        next(items)
        items.close()
        assert len(closed) == 1
        assert threading.get_ident() not in closed
        assert not data_threads()

    def test_a_failing_consumer_ends_the_thread(self) -> None:
        def produce(_: Cancelled) -> Generator[int, None, None]:
            yield from count()

        def consume() -> None:
            with closing(read_ahead(produce, lambda _: 1, 10, 10)) as items:
                next(items)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()
        assert not data_threads()


@pytest.mark.parametrize("fails", [False, True], ids=["closed", "failed"])
def test_running_work_may_end_when_the_consumer_leaves(fails: bool) -> None:
    """It would be awaited for ever."""
    left = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            assert left.wait(60)
        if item == 0 and fails:
            raise ValueError
        return item

    with (
        pytest.raises(ValueError) if fails else nullcontext(),  # noqa: PT011 the test's own
        closing(map_in_order(work, range(2), 2, ahead=1, leave=left.set)) as results,
    ):
        assert next(results) == 0
    assert left.is_set()
    assert not data_threads()


def test_a_consumer_that_has_all_results_has_not_left() -> None:
    left = threading.Event()
    assert list(map_in_order(str, range(3), 2, ahead=1, leave=left.set)) == ["0", "1", "2"]
    assert not left.is_set()
