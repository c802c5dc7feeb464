from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from semseg.errors import BusyError, TooLargeError
from semseg.serving.room import Room


def later() -> float:
    """A minute from now: a limit that no test reaches, on any machine."""
    return time.monotonic() + 60


def test_those_under_way_never_hold_more_than_there_is() -> None:
    room, at_once, peak, counting = Room(), 0, 0, threading.Lock()

    def use(size: int) -> None:
        nonlocal at_once, peak
        with room.held(size, of=100, until=later()):
            with counting:
                at_once += size
                peak = max(peak, at_once)
            with counting:
                at_once -= size

    with ThreadPoolExecutor(16) as requests:
        list(requests.map(use, [10, 40, 100, 1, 60] * 100))
    assert peak <= 100


def test_who_finds_too_little_waits_until_it_is_given_back() -> None:
    room, entered = Room(), threading.Event()

    def wait() -> None:
        with room.held(50, of=100, until=later()):
            entered.set()

    waiting = threading.Thread(target=wait)
    with room.held(51, of=100, until=later()):
        waiting.start()
        assert not entered.wait(0.05)
    waiting.join(60)
    assert entered.is_set()


def test_an_error_gives_back_too() -> None:
    room = Room()
    with pytest.raises(ZeroDivisionError), room.held(100, of=100, until=later()):
        raise ZeroDivisionError
    with room.held(100, of=100, until=later()):
        pass


def test_what_can_never_be_had_is_an_error_at_once() -> None:
    with (
        pytest.raises(TooLargeError, match="takes 2 MB of memory; the server has 1 MB") as caught,
        Room().held(1_000_001, of=1_000_000, until=later()),
    ):
        pass
    assert "image/png" in caught.value.hint


class Requests:
    """Requests that hold parts of 100 bytes, each until it is told to end; `inside`: those that hold theirs."""

    def __init__(self) -> None:
        self._room, self._changed = Room(), threading.Condition()
        self._threads: list[threading.Thread] = []
        self._ends: dict[str, threading.Event] = {}
        self.inside: list[str] = []

    def begin(self, name: str, size: int) -> None:
        """Returns when the request has its part, or waits for it."""
        self._ends[name] = threading.Event()
        came = len(self._room._parts) + 1
        self._threads.append(threading.Thread(target=self._hold, args=(name, size)))
        self._threads[-1].start()
        self._until(lambda: len(self._room._parts) == came)

    def end(self, name: str) -> None:
        """Returns when the request, which has its part, has given it back."""
        self._until(lambda: name in self.inside)
        self._ends[name].set()
        self._until(lambda: name not in self.inside)

    def expect(self, *names: str) -> None:
        """These have their parts, nobody else."""
        self._until(lambda: sorted(self.inside) == sorted(names))
        assert sum(part.held for part in self._room._parts) == len(names)

    def end_all(self) -> None:
        for end in self._ends.values():
            end.set()
        for thread in self._threads:
            thread.join(60)

    def _hold(self, name: str, size: int) -> None:
        with self._room.held(size, of=100, until=time.monotonic() + 60):
            self._note(lambda: self.inside.append(name))
            self._ends[name].wait(60)
        self._note(lambda: self.inside.remove(name))

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        with self._changed:
            while not condition():  # a request that only waits has nothing to note
                assert time.monotonic() < deadline, self.inside
                self._changed.wait(0.001)


@pytest.fixture
def requests() -> Iterator[Requests]:
    begun = Requests()
    yield begun
    begun.end_all()


def test_who_comes_first_is_served_first(requests: Requests) -> None:
    requests.begin("all", 100)
    requests.begin("first", 60)
    requests.begin("second", 60)
    requests.end("all")
    requests.expect("first")
    requests.end("first")
    requests.expect("second")


def test_the_small_do_not_wait_behind_a_large_one_that_cannot_begin(requests: Requests) -> None:
    """However many they are: the large one waits for the slow one all the same."""
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
    requests.expect("passes")  # it alone is in the large one's way by now, so nobody else may be
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


def test_when_the_time_is_over_who_waits_is_told_to_come_again_and_leaves_the_line() -> None:
    room = Room()
    with room.held(60, of=100, until=later()):
        with pytest.raises(BusyError, match="memory"), room.held(50, of=100, until=time.monotonic()):
            pass
        with room.held(40, of=100, until=time.monotonic()):
            pass


def test_a_growing_part_is_counted_and_given_back() -> None:
    room = Room()
    for _ in range(3):
        with room.growing(of=100) as take:
            take(60)
            take(40)
            with room.growing(of=100) as other, pytest.raises(BusyError, match="Other requests' bodies"):
                other(1)
            with pytest.raises(TooLargeError, match="larger than the memory for bodies"):
                take(1)
