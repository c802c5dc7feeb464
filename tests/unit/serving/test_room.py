from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from semseg.errors import TooLargeError
from semseg.serving.room import Room


def test_those_under_way_never_hold_more_than_there_is() -> None:
    room, at_once, peak, counting = Room(), 0, 0, threading.Lock()

    def use(size: int) -> None:
        nonlocal at_once, peak
        with room.held(size, of=100):
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
        with room.held(50, of=100):
            entered.set()

    waiting = threading.Thread(target=wait)
    with room.held(51, of=100):
        waiting.start()
        with room.held(49, of=100):
            assert not entered.is_set()
    waiting.join()
    assert entered.is_set()


def test_an_error_gives_back_too() -> None:
    room = Room()
    with pytest.raises(ZeroDivisionError), room.held(100, of=100):
        raise ZeroDivisionError
    with room.held(100, of=100):
        pass


def test_what_can_never_be_had_is_an_error_at_once() -> None:
    with (
        pytest.raises(TooLargeError, match="takes 2 MB of memory; the server has 1 MB") as caught,
        Room().held(1_000_001, of=1_000_000),
    ):
        pass
    assert "image/png" in caught.value.hint
