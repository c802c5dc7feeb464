from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from semseg.training.peers import LONGEST, Peer, finish


@pytest.fixture
def pair() -> Iterator[tuple[Peer, socket.socket]]:
    """A peer and the other end of its connection."""
    one, other = socket.socketpair()
    with one, other:
        other.settimeout(30)
        yield Peer(one, "algo-2"), other


def test_messages_pass_in_both_directions_in_any_parts(pair: tuple[Peer, socket.socket]) -> None:
    peer, other = pair
    assert list(peer.receive()) == []
    other.sendall(b'{"a": 1}\n{"b"')
    assert list(peer.receive()) == [{"a": 1}]
    other.sendall(b": 2}\n")
    assert list(peer.receive()) == [{"b": 2}]
    peer.send({"c": "ä"})
    assert json.loads(other.recv(100)) == {"c": "ä"}
    assert not peer.closed


def test_the_last_messages_of_an_ended_connection_are_received(pair: tuple[Peer, socket.socket]) -> None:
    peer, other = pair
    other.sendall(b'{"a": 1}\n')
    other.close()
    assert (list(peer.receive()), peer.closed) == ([{"a": 1}], True)
    assert list(peer.receive()) == []
    peer.send({"b": 2})


@pytest.mark.parametrize("data", [b"x\n", b"[1]\n", b"\xff\n", b"[" * 100_000 + b"\n", b"a" * (LONGEST + 1), b"\n"])
def test_what_is_no_message_closes_the_connection(pair: tuple[Peer, socket.socket], data: bytes) -> None:
    peer, other = pair
    other.setblocking(False)
    found: list[object] = []
    while data and not peer.closed:
        data = data[other.send(data) :]
        found += peer.receive()
    assert (found, peer.closed) == ([], True)


def test_messages_that_are_not_taken_come_with_the_next_call(pair: tuple[Peer, socket.socket]) -> None:
    """Also from a connection that has ended meanwhile, unless it is closed here."""
    peer, other = pair
    other.sendall(b'{"a": 1}\n{"b": 2}\n{"c": 3}\n')
    other.close()
    assert [next(peer.receive()), next(peer.receive())] == [{"a": 1}, {"b": 2}]
    assert peer.closed
    peer.close()
    assert list(peer.receive()) == []


def test_finishing_waits_for_the_other_end_though_not_for_long(pair: tuple[Peer, socket.socket]) -> None:
    peer, other = pair
    peer.send({"a": 1})
    begin = time.monotonic()
    finish([peer], seconds=0.1)
    assert time.monotonic() - begin >= 0.1
    assert json.loads(other.recv(100)) == {"a": 1}
    assert other.recv(1) == b""


class SilentSocket:
    """One whose other end neither says anything nor closes the connection, with a clock that passes as it waits."""

    now = 1000.0

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def recv(self, _: int) -> bytes:
        SilentSocket.now += self._seconds
        raise TimeoutError

    def shutdown(self, _: int) -> None:
        pass

    def close(self) -> None:
        pass


def test_finishing_waits_for_many_hosts_no_longer_than_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the hosts may be cut off at once, and all must end within two minutes."""
    monkeypatch.setattr("semseg.training.peers.time.monotonic", lambda: SilentSocket.now)
    sockets: list[Any] = [SilentSocket() for _ in range(100)]
    begun = SilentSocket.now
    finish([Peer(one) for one in sockets])
    assert SilentSocket.now - begun <= 5
