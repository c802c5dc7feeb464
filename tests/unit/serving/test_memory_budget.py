from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from semseg.errors import BusyError, TooLargeError
from semseg.serving.memory_budget import MemoryBudget, Reservations


def later() -> float:
    """A deadline in a minute, which no test reaches on any machine."""
    return time.monotonic() + 60


def test_requests_never_hold_more_than_the_budget() -> None:
    memory, total, peak, counting = Reservations(100), 0, 0, threading.Lock()

    def use(size: int) -> None:
        nonlocal total, peak
        with memory.reserve(size, until=later()):
            with counting:
                total += size
                peak = max(peak, total)
            with counting:
                total -= size

    with ThreadPoolExecutor(16) as requests:
        list(requests.map(use, [10, 40, 100, 1, 60] * 100))
    assert peak <= 100


def test_a_request_waits_for_memory_until_it_is_released() -> None:
    memory, entered = Reservations(100), threading.Event()

    def wait() -> None:
        with memory.reserve(50, until=later()):
            entered.set()

    waiting = threading.Thread(target=wait)
    with memory.reserve(51, until=later()):
        waiting.start()
        assert not entered.wait(0.05)
    waiting.join(60)
    assert entered.is_set()


def test_an_error_gives_back_too() -> None:
    memory = Reservations(100)
    with pytest.raises(ZeroDivisionError), memory.reserve(100, until=later()):
        raise ZeroDivisionError
    with memory.reserve(100, until=later()):
        pass


def test_more_than_the_budget_is_an_error_at_once() -> None:
    with (
        pytest.raises(TooLargeError, match="takes 2 MB of memory; the server has 1 MB") as caught,
        Reservations(1_000_000).reserve(1_000_001, until=later()),
    ):
        pass
    assert "image/png" in caught.value.hint


class Requests:
    """Requests that share 100 bytes, each until the test ends it; `inside`: those that hold memory."""

    def __init__(self) -> None:
        self.memory, self._changed = Reservations(100), threading.Condition()
        self._threads: list[threading.Thread] = []
        self._ends: dict[str, threading.Event] = {}
        self.inside: list[str] = []

    def begin(self, name: str, size: int) -> None:
        """Start a request; returns when it has its memory or waits for it."""
        self._ends[name] = threading.Event()
        came = len(self.memory._reservations) + 1
        self._threads.append(threading.Thread(target=self._hold, args=(name, size)))
        self._threads[-1].start()
        self._until(lambda: len(self.memory._reservations) == came)

    def end(self, name: str) -> None:
        """End a request that gets its memory; returns when it has released it."""
        self._until(lambda: name in self.inside)
        self._ends[name].set()
        self._until(lambda: name not in self.inside)

    def expect(self, *names: str) -> None:
        """Assert that exactly these requests have their memory."""
        self._until(lambda: sorted(self.inside) == sorted(names))
        assert sum(one.held for one in self.memory._reservations) == len(names)

    def end_all(self) -> None:
        for end in self._ends.values():
            end.set()
        for thread in self._threads:
            thread.join(60)

    def _hold(self, name: str, size: int) -> None:
        with self.memory.reserve(size, until=time.monotonic() + 60):
            self._change(lambda: self.inside.append(name))
            self._ends[name].wait(60)
        self._change(lambda: self.inside.remove(name))

    def _change(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        with self._changed:
            while not condition():  # a request that only waits notifies nobody
                assert time.monotonic() < deadline, self.inside
                self._changed.wait(0.001)


@pytest.fixture
def requests() -> Iterator[Requests]:
    begun = Requests()
    yield begun
    begun.end_all()


def test_the_first_to_wait_is_the_first_to_get_memory(requests: Requests) -> None:
    requests.begin("all", 100)
    requests.begin("first", 60)
    requests.begin("second", 60)
    requests.end("all")
    requests.expect("first")
    requests.end("first")
    requests.expect("second")


def test_the_small_do_not_wait_behind_a_large_one_that_cannot_begin(requests: Requests) -> None:
    """However many small ones there are: the large one has to wait for the slow one anyway."""
    requests.begin("slow", 60)
    requests.begin("large", 80)
    for number in range(20):
        requests.begin(f"small {number}", 30)
        requests.expect("slow", f"small {number}")
        requests.end(f"small {number}")
    requests.end("slow")
    requests.expect("large")


def test_a_large_one_waits_no_longer_than_for_those_that_had_passed_when_it_could_have_begun(
    requests: Requests,
) -> None:
    requests.begin("slow", 60)
    requests.begin("large", 80)
    requests.begin("passes", 30)
    requests.end("slow")
    for number in range(3):
        requests.begin(f"later {number}", 10)
    requests.expect("passes")  # only this one is in the large one's way by now, so no other may overtake it
    requests.end("passes")
    requests.expect("large", "later 0", "later 1")


def test_of_several_large_ones_none_waits_for_ever(requests: Requests) -> None:
    requests.begin("slow", 60)
    requests.begin("whole", 100)
    requests.begin("large", 70)
    requests.begin("passes", 40)
    requests.expect("slow", "passes")
    requests.end("slow")
    requests.begin("later", 10)
    requests.expect("passes")
    requests.end("passes")
    requests.expect("whole")
    requests.end("whole")
    requests.expect("large", "later")


def test_a_request_that_waits_past_its_deadline_is_refused_and_leaves_the_queue() -> None:
    memory = Reservations(100)
    with memory.reserve(60, until=later()):
        with pytest.raises(BusyError, match="memory"), memory.reserve(50, until=time.monotonic()):
            pass
        with memory.reserve(40, until=time.monotonic()):
            pass


def test_a_growing_reservation_is_counted_and_given_back() -> None:
    memory = Reservations(100)
    for _ in range(3):
        with memory.growing() as take:
            take(60)
            take(40)
            with memory.growing() as other, pytest.raises(BusyError, match="Other requests' bodies"):
                other(1)
            with pytest.raises(TooLargeError, match="larger than the memory for bodies"):
                take(1)


def test_a_budget_gives_a_quarter_to_bodies_and_the_rest_to_images() -> None:
    budget = MemoryBudget(1003)
    assert (budget.bodies.limit, budget.images.limit) == (250, 753)


def test_the_model_that_leaves_least_sets_the_budget() -> None:
    budget = MemoryBudget()
    for left, expected in ((1000, 750), (400, 300), (800, 300)):
        budget.lower_to(left)
        assert budget.images.limit == expected


def test_a_request_larger_than_a_reduced_budget_does_not_block_others(requests: Requests) -> None:
    requests.begin("slow", 60)
    requests.begin("large", 80)
    requests.memory.limit = 70
    requests.begin("small", 10)
    requests.end("slow")
    requests.begin("another", 60)
    requests.expect("small", "another")
    requests.memory.limit = 100  # so that the large one ends with the test
