from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from semseg.errors import GroupError
from semseg.training.failures import DIED, LOST, RAISED, Failure
from semseg.training.watch import watch


@dataclass(eq=False)
class Rank:
    """A rank that ends well after so many looks, or fails then. ends_before: it ends after the look before."""

    looks: int
    failure: Failure | None = None
    ends_before: bool = False
    terminated: bool = False
    waited_for: list[int] = field(default_factory=list)

    def poll(self) -> Failure | None:
        self.looks -= 1
        return self.failure if self.looks <= 0 else None

    @property
    def has_ended(self) -> bool:
        return self.looks <= int(self.ends_before)

    @property
    def has_ended_well(self) -> bool:
        return self.has_ended and not self.failure

    def terminate(self) -> None:
        self.terminated = True
        self.looks = min(self.looks, 1)


@dataclass
class Link:
    """A link to other hosts: what it finds at each look, and what it is given to send."""

    is_first: bool = True
    finds: list[list[Failure]] = field(default_factory=list)
    verdict_after: int = -1
    over_after: int = 0
    stopping: bool = False
    sent: list[tuple[str, Any]] = field(default_factory=list)
    waited_for: list[int] = field(default_factory=list)
    looks: int = 0

    def poll(self) -> list[Failure]:
        self.looks += 1
        return self.finds.pop(0) if self.finds else []

    @property
    def verdict(self) -> Failure | None:
        return VERDICT if 0 <= self.verdict_after < self.looks else None

    @property
    def over(self) -> bool:
        return self.looks > self.over_after

    def report(self, failure: Failure) -> None:
        self.sent.append(("failed", failure))

    def say_done(self) -> None:
        if ("done", None) not in self.sent:
            self.sent.append(("done", None))

    def say_stopping(self) -> None:
        if ("stopping", None) not in self.sent:
            self.sent.append(("stopping", None))

    def end(self, cause: Failure) -> None:
        self.sent.append(("end", cause))


OWN, GONE, DEAD = Failure(RAISED, "an error", 1), Failure(LOST, "a loss"), Failure(DIED, "a death")
VERDICT = Failure(DIED, "the verdict")


@pytest.fixture(autouse=True)
def _no_time_passes_but_by_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes a second."""
    now = [0.0]

    def wait(*_: object) -> None:
        now[0] += 1

    monkeypatch.setattr("semseg.training.watch.connection.wait", wait)
    monkeypatch.setattr("semseg.training.watch.time.monotonic", lambda: now[0])


def ended(ranks: list[Rank], link: Link | None = None) -> GroupError:
    fakes: Any = ranks
    other: Any = link
    with pytest.raises(GroupError) as caught:
        watch(fakes, other, threading.Event())
    return caught.value


def test_it_returns_when_all_ranks_have_ended_well() -> None:
    ranks: Any = [Rank(3), Rank(1)]
    watch(ranks, None, threading.Event())
    assert not any(rank.terminated for rank in ranks)


def test_a_stop_is_passed_on_to_all_ranks() -> None:
    stop = threading.Event()
    stop.set()
    ranks: Any = [Rank(100), Rank(100)]
    watch(ranks, None, stop)
    assert all(rank.terminated for rank in ranks)


@pytest.mark.parametrize("here", [True, False])
def test_a_stop_of_any_host_is_passed_on_to_all_ranks(here: bool) -> None:
    """At once, not after the next step: a rank may be waiting for data."""
    stop = threading.Event()
    if here:
        stop.set()
    ranks, link = [Rank(100)], Link(stopping=not here)
    fakes: Any = ranks
    other: Any = link
    watch(fakes, other, stop)
    assert stop.is_set()
    assert ranks[0].terminated
    assert link.sent == [("stopping", None), ("done", None)]


@pytest.mark.parametrize(
    ("failures", "cause"),
    [([GONE, OWN], OWN), ([OWN, DEAD], DEAD), ([GONE, GONE], GONE)],
)
def test_the_cause_is_found_among_failures_that_follow_each_other(failures: list[Failure], cause: Failure) -> None:
    error = ended([Rank(number, failure) for number, failure in enumerate(failures, 1)])
    assert (str(error), error.exit_code) == (cause.message, cause.exit_code)


def test_a_rank_that_ends_while_others_are_looked_at_is_looked_at_again() -> None:
    """One that dies closes its connections first, and another may report that, and end, before it has ended."""
    assert str(ended([Rank(2, DEAD, ends_before=True), Rank(1, GONE)])) == DEAD.message


def test_a_rank_that_waits_for_a_lost_one_is_not_waited_for() -> None:
    assert str(ended([Rank(1, DEAD), Rank(10**6)])) == DEAD.message


def test_the_first_host_sends_the_cause_to_all_and_waits_longer_for_the_silence_behind_a_loss() -> None:
    link = Link(finds=[[], [GONE], *([] for _ in range(40)), [DEAD]])
    assert str(ended([Rank(10**6)], link)) == DEAD.message
    assert link.sent == [("end", DEAD)]


def test_another_host_reports_its_failure_and_takes_the_verdict() -> None:
    link = Link(is_first=False, verdict_after=4)
    assert str(ended([Rank(1, OWN)], link)) == VERDICT.message
    assert link.sent == [("failed", OWN)]


def test_another_host_ends_by_itself_if_no_verdict_comes() -> None:
    link = Link(is_first=False)
    assert str(ended([Rank(1, OWN)], link)) == OWN.message
    assert link.looks < 30


def test_hosts_wait_until_all_have_ended() -> None:
    link: Any = Link(over_after=5)
    ranks: Any = [Rank(1)]
    watch(ranks, link, threading.Event())
    assert (link.sent, link.looks) == ([("done", None)], 6)
