from __future__ import annotations

import pytest

from semseg.client.retries import until_served
from semseg.errors import BusyError, RequestError


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Busy:
    """A server that is busy for a number of calls and asks for a time to wait; `left`: the seconds of each call."""

    def __init__(self, times: int, retry_after: int = 0) -> None:
        self.times = times
        self.retry_after = retry_after
        self.left: list[float] = []

    def __call__(self, seconds: float) -> str:
        self.left.append(seconds)
        if len(self.left) <= self.times:
            raise BusyError("The queue is full.", "Try again.", self.retry_after)
        return "served"


def served(busy: Busy, seconds: float, clock: Clock) -> str:
    return until_served(busy, seconds, lambda: clock.now, clock.sleep)


def test_waits_grow_and_calls_know_how_much_time_is_left() -> None:
    clock, busy = Clock(), Busy(7)
    assert served(busy, 1000, clock) == "served"
    for slept, least in zip(clock.slept, [0.5, 1, 2, 4, 8, 8, 8], strict=True):
        assert least <= slept <= 1.25 * least
    assert busy.left[0] == 1000
    assert busy.left[-1] == pytest.approx(1000 - sum(clock.slept))


def test_the_server_s_wait_is_kept_if_it_is_longer() -> None:
    clock = Clock()
    served(Busy(2, retry_after=20), 1000, clock)
    assert all(20 <= slept <= 25 for slept in clock.slept)


@pytest.mark.parametrize("retry_after", [0, 1, 30, 10**8])
def test_the_deadline_ends_it_without_a_wait_that_would_pass_it(retry_after: int) -> None:
    clock = Clock()
    with pytest.raises(BusyError, match=r"queue is full.*tried for 10 s; wait longer with a higher timeout") as caught:
        served(Busy(10**9, retry_after), 10, clock)
    assert clock.now < 10
    assert caught.value.retry_after == retry_after


def test_other_errors_are_not_repeated() -> None:
    calls = []

    def refuse(_: float) -> None:
        calls.append(1)
        raise RequestError("No.")

    with pytest.raises(RequestError):
        until_served(refuse, 10)
    assert len(calls) == 1
