from __future__ import annotations

import errno
import json
import logging
import math
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, UnsupportedTransferCoding

from semseg.serving import connections
from semseg.serving.connections import ClientSocket, PatientWorker


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """A connection: the server's end, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server = ClientSocket(fileno=listener.accept()[0].detach())
    with closing(server), closing(client):
        yield server, client


def test_what_comes_is_read_and_what_is_sent_arrives(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    client.sendall(b"question")
    assert server.recv(100) == b"question"
    server.sendall(memoryview(b"answer"))
    assert client.recv(100) == b"answer"
    client.close()
    assert server.recv(100) == b""


def test_a_client_that_sends_nothing_counts_as_gone(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READING_STALLS_AFTER", 0.01)
    with pytest.raises(ConnectionResetError, match="stalls"):
        pair[0].recv(100)
    assert pair[0].gettimeout() is None


def test_a_client_that_drips_has_the_time_of_a_request_from_its_first_byte(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    server.seconds = 20.0
    clock = iter([0.0, 5.0, 5.0, 24.9, 25.1])
    monkeypatch.setattr("semseg.serving.connections.time.monotonic", lambda: next(clock))
    client.sendall(b"G")
    assert server.recv(100) == b"G"
    assert server.read_until == 25.0
    client.sendall(b"E")
    assert server.recv(100) == b"E"
    assert server.read_until == 25.0
    with pytest.raises(ConnectionResetError, match="takes too long"):
        server.recv(100)


def test_a_client_that_reads_nothing_counts_as_gone(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WRITING_STALLS_AFTER", 0.01)
    with pytest.raises(ConnectionResetError, match="stalls"):
        pair[0].sendall(bytes(100 << 20))


def test_the_head_of_a_request_comes_in_few_pieces(pair: tuple[ClientSocket, socket.socket]) -> None:
    """Gunicorn parses the head from its start with each piece, up to 800 kB."""
    server, client = pair
    server.reads_left = 3
    client.sendall(b"GET / HTTP/1.1")
    assert [server.recv(1) for _ in range(3)] == [b"G", b"E", b"T"]
    with pytest.raises(ConnectionResetError, match="too little at a time"):
        server.recv(1)


def test_a_client_that_always_sends_has_no_more_time_than_others(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    client.sendall(b"more")
    server.read_until = time.monotonic()
    with pytest.raises(ConnectionResetError, match="takes too long"):
        server.recv(1)


def test_a_client_that_reads_slowly_gets_all(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    sent = bytes(range(256)) * (20 << 12)
    received = bytearray()

    def read() -> None:
        while piece := client.recv(10_000):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    server.sendall(sent)
    server.shutdown(socket.SHUT_WR)
    reader.join(60)
    assert received == sent


class Clock:
    """A simulated clock that advances while data is sent."""

    def __init__(self, a_send_takes: float) -> None:
        self.now, self._step = 0.0, a_send_takes

    def monotonic(self) -> float:
        self.now += self._step
        return self.now


def answer_at(rate: int, pieces: int, pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> int:
    """Sends an answer in pieces of 100 kB to a client that reads `rate` bytes a second; returns how many it gets."""
    server, client = pair
    clock, piece = Clock(100_000 / rate), bytes(100_000)
    monkeypatch.setattr("semseg.serving.connections.time.monotonic", clock.monotonic)
    sent = 0
    with suppress(ConnectionResetError):
        while sent < pieces:
            server.sendall(piece)
            sent += len(client.recv(len(piece), socket.MSG_WAITALL)) // len(piece)
            clock.now += 100  # the time to make the next piece does not count for the client
    return sent


@pytest.mark.parametrize(("rate", "pieces"), [(10_000, 3), (80_000, 35), (180_000, 192)])
def test_a_client_that_takes_a_large_answer_too_slowly_counts_as_gone(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch, rate: int, pieces: int
) -> None:
    """The client is disconnected when it is 30 seconds behind the least rate."""
    assert answer_at(rate, 1000, pair, monkeypatch) in (pieces, pieces + 1)


def test_a_client_at_the_least_rate_gets_all(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer_at(connections.MIN_RATE, 1000, pair, monkeypatch) == 1000


def test_a_fast_start_does_not_allow_a_slow_rest(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer_at(10**9, 500, pair, monkeypatch) == 500
    assert answer_at(80_000, 500, pair, monkeypatch) < 40


def test_a_client_that_sends_no_more_has_left_even_with_a_request_unread(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    server, client = pair
    assert not server.closed_by_client()
    client.sendall(b"the next request")
    assert not server.closed_by_client()
    client.shutdown(socket.SHUT_WR)
    assert server.closed_by_client()
    assert server.recv(100) == b"the next request"


def test_a_connection_reset_has_left(pair: tuple[ClientSocket, socket.socket]) -> None:
    server, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert server.closed_by_client()


def test_gunicorn_s_shorter_patience_holds(pair: tuple[ClientSocket, socket.socket]) -> None:
    pair[0].settimeout(0.01)
    with pytest.raises(ConnectionResetError, match="stalls"):
        pair[0].recv(100)
    assert pair[0].gettimeout() == 0.01


@pytest.mark.parametrize("closes", [True, False])
def test_the_end_waits_for_the_client_but_not_for_long(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    server, client = pair
    monkeypatch.setattr(connections, "CLOSING_TAKES", 1000 if closes else 0.01)
    client.sendall(b"rest of an unread body")
    if closes:
        client.shutdown(socket.SHUT_WR)
    server.finish()
    assert client.recv(100) == b""
    server.read_until = math.inf
    assert server.recv(100) == b""  # at once: it does not wait a second time


@pytest.fixture
def worker() -> Iterator[PatientWorker]:
    worker = PatientWorker(1, 1, [], None, 30, Config(), logging.getLogger("a test"))
    with closing(worker.tmp):
        yield worker


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InvalidRequestLine("a"), b"400 Bad Request", "Invalid HTTP request line: 'a'"),
        (UnsupportedTransferCoding("br"), b"400 Bad Request", "Unsupported transfer coding: 'br'"),
        (LimitRequestHeaders("too many"), b"431 Request Header Fields Too Large", "too many"),
        (InvalidRequestLine("a" * 9000), b"400 Bad Request", f"Invalid HTTP request line: '{'a' * 72}"),
        (RuntimeError("secret"), b"500 Internal Server Error", "Internal error: RuntimeError."),
    ],
)
def test_errors_before_an_answer_have_the_form_of_all(
    pair: tuple[ClientSocket, socket.socket], worker: PatientWorker, error: Exception, status: bytes, says: str
) -> None:
    worker.handle_error(None, pair[0], ("127.0.0.1", 80), error)
    head, _, body = pair[1].recv(10_000).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Type: application/json\r\n")
    assert head.endswith(b"Content-Length: %d" % len(body))
    reported = json.loads(body)
    assert (reported["error"], set(reported)) == (says, {"error", "hint"})


def test_a_client_that_is_gone_gets_no_error(pair: tuple[ClientSocket, socket.socket], worker: PatientWorker) -> None:
    pair[0].close()
    worker.handle_error(None, pair[0], ("127.0.0.1", 80), InvalidRequestLine("a"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENETDOWN, errno.EAGAIN])
def test_a_client_that_cannot_be_had_is_no_end(worker: PatientWorker, number: int) -> None:
    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            raise OSError(number, os.strerror(number))

    with Listener() as listener:
        worker.accept(listener)
    assert worker.nr_conns == 0


def test_a_worker_quits_even_if_the_signal_interrupts_what_holds_the_lock_of_its_threads() -> None:
    code = """
from gunicorn.config import Config
from semseg.serving.connections import PatientWorker
from semseg.serving.threads import PatientThreads

worker = PatientWorker.__new__(PatientWorker)
worker.cfg, worker.tpool = Config(), PatientThreads(1)
with worker.tpool._shutdown_lock:
    worker.handle_quit(2, None)
raise AssertionError("It goes on.")
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
