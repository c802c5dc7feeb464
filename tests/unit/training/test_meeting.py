from __future__ import annotations

import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from three_hosts import GO, NAMES, SECONDS, calling, gathering, hello, hosts

from semseg.errors import GroupError, Stopped
from semseg.sagemaker.hosts import Hosts
from semseg.training import calls, meeting
from semseg.training.failures import RAISED, Failure
from semseg.training.host_link import HostLink
from semseg.training.meeting import call, gather


def test_all_hosts_meet_and_learn_each_others_facts(pool: ThreadPoolExecutor, listener: socket.socket) -> None:
    """Strangers are ignored: those that say nothing, and those that say something else."""
    with (
        socket.create_connection(listener.getsockname()) as silent,
        socket.create_connection(listener.getsockname()) as wrong,
    ):
        wrong.sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent.sendall(json.dumps({"hello": "algo-9", "job": {}, "facts": {}}).encode() + b"\n")
        others = [calling(pool, number) for number in (1, 2)]
        peers, facts = gathering(pool, listener).result(SECONDS)
    for peer in peers:
        peer.close()
    assert sorted(peer.name for peer in peers) == ["127.0.0.2", "127.0.0.3"]
    assert facts == {name: {"pairs": 10 * number} for number, name in enumerate(NAMES)}
    for other in others:
        peer, found = other.result(SECONDS)
        assert (peer.name, peer.address, found) == ("127.0.0.1", "127.0.0.1", facts)
        peer.close()


def test_a_first_host_that_starts_later_is_waited_for(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name does not resolve at first, then nothing listens there."""
    problems: list[Any] = [socket.gaierror(-2, "Name or service not known"), ConnectionRefusedError(111, "refused")]
    tried, connect = threading.Event(), socket.create_connection

    def failing(*arguments: Any) -> socket.socket:
        if problems:
            raise problems.pop(0)
        tried.set()
        return connect(*arguments)

    with socket.create_server(("127.0.0.1", 0)) as reserved:
        monkeypatch.setattr(calls, "WATCH_PORT", reserved.getsockname()[1])
        monkeypatch.setattr(calls, "_TICK", 0.05)
        monkeypatch.setattr(socket, "create_connection", failing)
        others = [calling(pool, number) for number in (1, 2)]
        assert tried.wait(SECONDS)
        peers, _ = gathering(pool, reserved).result(SECONDS)
    peers += [other.result(SECONDS)[0] for other in others]
    for peer in peers:
        peer.close()
    assert sorted(peer.name for peer in peers) == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name does not resolve"),
        (OSError(113, "No route to host"), r"it cannot be reached \(No route to host\)"),
    ],
)
def test_a_first_host_that_never_comes_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, problem: OSError, says: str
) -> None:
    def failing(*_: Any) -> socket.socket:
        raise problem

    monkeypatch.setattr(socket, "create_connection", failing)
    monkeypatch.setattr(calls, "_TICK", 0.01)
    with pytest.raises(
        GroupError, match=f"first host of the job, 127.0.0.1, has not begun within 0.001.* minutes: {says}"
    ):
        call(hosts(1), hello(1), 0.1, GO)


def test_hosts_with_another_job_get_the_reason_and_so_does_one_that_comes_later(
    pool: ThreadPoolExecutor, listener: socket.socket
) -> None:
    found = [gathering(pool, listener), calling(pool, 1, job="other")]
    assert found[1].exception(SECONDS)
    found.append(calling(pool, 2))
    for one in found:
        error = one.exception(SECONDS)
        assert isinstance(error, GroupError)
        assert (error.exit_code, error.message) == (
            1,
            "The hosts 127.0.0.1 and 127.0.0.2 differ in the job."
            + ("" if one is found[0] else " Start all hosts with the same image, configuration and data."),
        )


def test_why_a_host_cannot_take_part_reaches_one_that_comes_later(
    pool: ThreadPoolExecutor, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    first = gathering(pool, listener)
    ended = calls.reason_of(Failure(RAISED, "The host 127.0.0.3 is broken.", 1))
    with socket.create_connection(listener.getsockname()) as third:
        third.sendall(json.dumps({"hello": NAMES[2], **ended}).encode() + b"\n")
        third.shutdown(socket.SHUT_WR)
        while not any("is broken. This host waits" in message for message in caplog.messages):
            assert not first.done()
        found = [calling(pool, 1), first]  # which does not wait for the third host
        assert [str(one.exception(SECONDS / 2)) for one in found] == ["The host 127.0.0.3 is broken."] * 2


def test_a_stop_of_the_first_host_stops_those_that_have_come_and_one_that_comes_later(
    pool: ThreadPoolExecutor, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    found = [gathering(pool, listener, stop), calling(pool, 1)]
    with caplog.at_level("INFO", logger="semseg"):
        while "The host 127.0.0.2 has come; 2 of 3 hosts are here." not in caplog.messages:
            assert not found[0].done()
    stop.set()
    assert type(found[1].exception(SECONDS)) is Stopped
    found.append(calling(pool, 2))
    assert [type(one.exception(SECONDS)) for one in found] == [Stopped] * 3
    with pytest.raises(BlockingIOError):
        listener.accept()  # a host that was told does not call again, to say that it stops


def test_a_stop_of_another_host_stops_all_though_it_had_not_called_yet(
    pool: ThreadPoolExecutor, listener: socket.socket
) -> None:
    stop = threading.Event()
    stop.set()
    found = [gathering(pool, listener), calling(pool, 1, stop=stop)]
    assert type(found[1].exception(SECONDS)) is Stopped
    found.append(calling(pool, 2))
    assert [type(one.exception(SECONDS)) for one in found] == [Stopped] * 3


def test_a_stopped_host_does_not_wait_long_for_those_that_do_not_come(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "SOON_SECONDS", 0.1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        gather(listener, hosts(0), hello(0), 1000 * SECONDS, stop)


def test_a_meeting_that_is_complete_begins_though_a_stop_has_come_meanwhile(listener: socket.socket) -> None:
    """Hosts that have begun would take one that leaves now for lost; the ranks will stop together."""
    stop, two = threading.Event(), Hosts(NAMES[0], names=NAMES[:2], interface="lo")
    with socket.create_connection(listener.getsockname()) as second:
        second.sendall(json.dumps(hello(1).message()).encode() + b"\n")
        stop.set()
        peers, _ = gather(listener, two, hello(0), SECONDS, stop)
        assert [peer.name for peer in peers] == [NAMES[1]]
        peers[0].close()


def test_what_the_first_host_says_as_soon_as_it_has_begun_is_not_lost(listener: socket.socket) -> None:
    """It may fail at once, say why, and end, all before another host has read the first message."""
    failure = Failure(RAISED, "The host 127.0.0.1: no space is left.")
    messages: list[dict[str, Any]] = [{"start": {NAMES[0]: {}, NAMES[1]: {}}}, {"end": failure.to_json()}]
    said = b"".join(json.dumps(message).encode() + b"\n" for message in messages)

    def first() -> None:
        called, _ = listener.accept()
        with called:
            assert called.recv(1000)
            called.sendall(said)
            called.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset, as if killed

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(first)
        peer, _ = call(hosts(1), hello(1), SECONDS, GO)
        ended.result(SECONDS)
    assert peer.address == "127.0.0.1"
    link = HostLink([peer], is_first=False)
    while not link.verdict:
        assert link.poll() == []
    assert link.verdict == failure
    link.close()


def test_a_host_that_is_stopped_when_the_first_one_has_just_begun_takes_part(listener: socket.socket) -> None:
    """The others would take it for lost; the ranks will stop together."""
    stop, facts = threading.Event(), {NAMES[0]: {"pairs": 0}, NAMES[1]: {"pairs": 10}}

    def first() -> None:
        called, _ = listener.accept()
        with called, called.makefile() as lines:
            assert "hello" in json.loads(lines.readline())
            stop.set()
            assert json.loads(lines.readline()) == {"stop": True}
            called.sendall(json.dumps({"start": facts}).encode() + b"\n")
            assert lines.read() == ""

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(first)
        peer, found = call(hosts(1), hello(1), SECONDS, stop)
        assert found == facts
        assert not peer.closed
        peer.close()
        ended.result(SECONDS)
