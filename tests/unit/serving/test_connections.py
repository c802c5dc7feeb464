from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, UnsupportedTransferCoding

from semseg.serving import connections
from semseg.serving.connections import ClientSocket, PatientWorker


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """A connection: our end, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours = ClientSocket(fileno=listener.accept()[0].detach())
    with closing(ours), closing(client):
        yield ours, client


def test_what_comes_is_read_and_what_is_sent_arrives(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, client = pair
    client.sendall(b"question")
    assert ours.recv(100) == b"question"
    ours.sendall(memoryview(b"answer"))
    assert client.recv(100) == b"answer"
    client.close()
    assert ours.recv(100) == b""


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
    ours, client = pair
    ours.seconds = 20.0
    clock = iter([0.0, 5.0, 5.0, 24.9, 25.1])
    monkeypatch.setattr("semseg.serving.connections.time.monotonic", lambda: next(clock))
    client.sendall(b"G")
    assert ours.recv(100) == b"G"
    assert ours.read_until == 25.0
    client.sendall(b"E")
    assert ours.recv(100) == b"E"
    assert ours.read_until == 25.0
    with pytest.raises(ConnectionResetError, match="stalls"):
        ours.recv(100)


def test_a_client_that_reads_nothing_counts_as_gone(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WRITING_STALLS_AFTER", 0.01)
    with pytest.raises(ConnectionResetError, match="stalls"):
        pair[0].sendall(bytes(100 << 20))


def test_a_client_that_reads_slowly_gets_all(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, client = pair
    sent = bytes(range(256)) * (20 << 12)
    received = bytearray()

    def read() -> None:
        while piece := client.recv(10_000):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    ours.sendall(sent)
    ours.shutdown(socket.SHUT_WR)
    reader.join()
    assert received == sent


def test_gunicorn_s_shorter_patience_holds(pair: tuple[ClientSocket, socket.socket]) -> None:
    pair[0].settimeout(0.01)
    with pytest.raises(ConnectionResetError, match="stalls"):
        pair[0].recv(100)
    assert pair[0].gettimeout() == 0.01


@pytest.mark.parametrize("closes", [True, False])
def test_the_end_waits_for_the_client_but_not_for_long(
    pair: tuple[ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    ours, client = pair
    monkeypatch.setattr(connections, "CLOSING_TAKES", 1000 if closes else 0.01)
    client.sendall(b"rest of a body nobody reads")
    if closes:
        client.shutdown(socket.SHUT_WR)
    ours.finish()
    assert client.recv(100) == b""
    assert ours.recv(100) == b""  # at once: nobody waits a second time


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
    told = json.loads(body)
    assert (told["error"], set(told)) == (says, {"error", "hint"})


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
