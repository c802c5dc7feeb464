from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from semseg.errors import BusyError, TooLargeError
from semseg.serving.room import Room

LATER = time.monotonic() + 1000


def test_those_under_way_never_hold_more_than_there_is() -> None:
    room, at_once, peak, counting = Room(), 0, 0, threading.Lock()

    def use(size: int) -> None:
        nonlocal at_once, peak
        with room.held(size, of=100, until=LATER):
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
        with room.held(50, of=100, until=LATER):
            entered.set()

    waiting = threading.Thread(target=wait)
    with room.held(51, of=100, until=LATER):
        waiting.start()
        assert not entered.wait(0.05)
    waiting.join()
    assert entered.is_set()


def test_an_error_gives_back_too() -> None:
    room = Room()
    with pytest.raises(ZeroDivisionError), room.held(100, of=100, until=LATER):
        raise ZeroDivisionError
    with room.held(100, of=100, until=LATER):
        pass


def test_what_can_never_be_had_is_an_error_at_once() -> None:
    with (
        pytest.raises(TooLargeError, match="takes 2 MB of memory; the server has 1 MB") as caught,
        Room().held(1_000_001, of=1_000_000, until=LATER),
    ):
        pass
    assert "image/png" in caught.value.hint


def test_who_comes_first_is_served_first() -> None:
    """The second would fit beside what is held, but then the first might wait for ever."""
    room, order = Room(), []
    waits = threading.Semaphore(0)

    def wait(name: str, size: int) -> None:
        waits.release()
        with room.held(size, of=100, until=LATER):
            order.append(name)

    with room.held(50, of=100, until=LATER):
        first = threading.Thread(target=wait, args=("large", 80))
        first.start()
        while not room._line:
            waits.acquire(timeout=0.01)
        second = threading.Thread(target=wait, args=("small", 10))
        second.start()
        while len(room._line) < 2:
            waits.acquire(timeout=0.01)
        assert not order
    first.join()
    second.join()
    assert order == ["large", "small"]


def test_when_the_time_is_over_who_waits_is_told_to_come_again_and_leaves_the_line() -> None:
    room = Room()
    with room.held(60, of=100, until=LATER):
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
