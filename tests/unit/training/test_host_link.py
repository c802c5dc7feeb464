from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from semseg.training import host_link, peers
from semseg.training.failures import DIED, LOST, RAISED, Failure
from semseg.training.host_link import HostLink
from semseg.training.peers import Peer

RANK_FAILED = Failure(RAISED, "Rank 2: b.png is damaged.", 1)


class Three:
    """The links of the first of three hosts and of the two others, with a clock that stands still.

    They are connected for 15 minutes before they begin.
    """

    def __init__(self, cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (host_link, peers):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        ends = [[cleanup.enter_context(end) for end in socket.socketpair()] for _ in range(2)]
        self.sockets = [end for pair in ends for end in pair]
        connected = [Peer(pair[0], f"algo-{number}") for number, pair in enumerate(ends, 2)]
        calling = [Peer(pair[1], "algo-1") for pair in ends]
        self.now += 900
        self.first = HostLink(connected, is_first=True)
        self.others = [HostLink([peer], is_first=False) for peer in calling]


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Three]:
    with ExitStack() as cleanup:
        yield Three(cleanup, monkeypatch)


def poll_all(three: Three) -> list[list[Failure]]:
    return [link.poll() for link in (three.first, *three.others)]


def test_it_is_over_when_all_hosts_are_done(three: Three) -> None:
    for done in (three.first, three.others[0]):
        done.say_done()
    assert poll_all(three) == [[], [], []]
    three.first.say_done()
    assert not three.first.over
    three.others[1].say_done()
    poll_all(three)
    three.first.say_done()
    poll_all(three)
    assert [link.over for link in (three.first, *three.others)] == [True, True, True]


def test_the_first_host_is_sent_failures_and_sends_the_cause_to_all(three: Three) -> None:
    three.others[1].report(RANK_FAILED)
    assert poll_all(three) == [[RANK_FAILED], [], []]
    three.first.end(RANK_FAILED)
    assert poll_all(three) == [[], [], []]
    assert [link.verdict for link in three.others] == [RANK_FAILED, RANK_FAILED]


def test_signs_of_life_are_sent_and_their_absence_is_noticed_on_both_sides(three: Three) -> None:
    for _ in range(20):
        three.now += 5
        assert poll_all(three) == [[], [], []]
    three.now += 1
    for _ in range(12):  # the third host does nothing any more
        three.now += 5
        found = [three.first.poll(), three.others[0].poll()]
        assert found[1] == []
        if found[0]:
            break
    (failure,) = found[0]
    assert (failure.kind, failure.message) == (
        DIED,
        "The host algo-3 has not been heard from for 45 s: it is stopped, cut off, or down.",
    )
    assert three.first.poll() == []  # is said once
    three.others[1].poll()
    three.now += 46
    assert [failure.message for failure in three.others[1].poll()] == [
        "The host algo-1 has not been heard from for 45 s: it is stopped, cut off, or down."
    ]


def test_a_host_that_has_ended_is_a_failure_unless_it_was_done(three: Three) -> None:
    three.others[0].say_done()
    for end in three.sockets[1::2]:
        end.shutdown(socket.SHUT_RDWR)
    assert [failure.message for failure in three.first.poll()] == [
        "The host algo-3 has ended, or its connection is lost: its log may show why."
    ]


def sent_text(three: Three, text: bytes) -> list[Failure]:
    three.sockets[1].sendall(text)
    return three.first.poll()


@pytest.mark.parametrize("text", [b'{"failed": "x"}\n', b'{"failed": 1}\n', b'{"end": null}\n', b'{"over": true}\n'])
def test_the_first_host_ignores_what_is_no_failure(three: Three, text: bytes) -> None:
    assert sent_text(three, text) == []
    assert (three.first.over, three.first.verdict) == (False, None)


def test_a_verdict_from_another_host_is_a_failure_of_that(three: Three) -> None:
    lost = Failure(LOST, "Rank 1 has lost rank 0.")
    assert sent_text(three, b'{"end": %s}\n' % json.dumps(lost.to_json()).encode()) == [lost]


def test_a_stop_of_any_host_reaches_all_others(three: Three) -> None:
    three.others[1].say_stopping()
    poll_all(three)
    assert [link.stopping for link in (three.first, *three.others)] == [True, False, False]
    three.first.say_stopping()
    three.first.say_stopping()
    poll_all(three)
    assert [link.stopping for link in (three.first, *three.others)] == [True, True, True]


def test_an_error_of_a_host_itself_is_sent_before_it_closes_its_link(three: Three) -> None:
    """As the cause of the end if it is the first host's."""
    failure = Failure(RAISED, "The host algo-2: No space left on device")
    three.others[0].fail(failure)
    assert three.first.poll() == [failure]
    three.first.fail(failure)
    poll_all(three)
    assert [link.verdict for link in three.others] == [failure, failure]
