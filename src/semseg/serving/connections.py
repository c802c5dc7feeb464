"""gunicorn's worker of threads, with clients that may be slow but neither silent nor endless.

gunicorn itself would wait for ever for the rest of a header, and for a client that no longer reads; it would end when
the system has no thread or file for another one.
"""

from __future__ import annotations

import errno
import math
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from semseg.serving.refusals import error_body, internal_error
from semseg.serving.threads import PatientThreads

READING_STALLS_AFTER = 10.0
"""Seconds without a byte of a header or a body, after which the connection is closed."""

READS_OF_A_HEAD = 1000
"""Pieces in which the head of a request may come; browsers and SDKs send it in one or two."""

WRITING_STALLS_AFTER = 30.0
"""Seconds that a client may be behind LEAST_RATE with its answer, after which the connection is closed."""

LEAST_RATE = 250_000
"""Bytes of an answer that a client takes in a second, or falls behind. The memory of the answer is held until it has
them: the 19 MB of probabilities of 21 classes and 480 x 480 pixels pass at 180 kB/s, the first 3 MB of any answer at
80 kB/s. The platform allows 60 s for 25 MB."""

CLOSING_TAKES = 2.0
"""Seconds for a client to read the end of its answer, and close."""

_READ_FOR_NOTHING = 1 << 16
"""Bytes of a body that gunicorn reads after the answer, to keep the connection."""

_PAUSE = 0.1
"""Seconds without new clients when the system has no thread or file for them."""

_WARN_EVERY = 60.0
"""Seconds at least from one warning of that to the next."""

_REFUSALS = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}
"""Status of what is HTTP and yet too much; what is none gets 400."""


class ClientSocket(socket.socket):
    """A client's connection that gives up when nothing moves; gunicorn takes that for a connection closed."""

    seconds = math.inf
    """That a request may take to come in, from its first byte."""

    read_until = math.inf
    """When the request at hand has to be whole, on time.monotonic's clock."""

    reads_left = math.inf
    """How often more may be read before the head of the request at hand is whole: gunicorn parses what it has of it
    anew with each piece."""

    behind = 0.0
    """Seconds that the client is behind with the answer at hand."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As socket.recv; raises ConnectionResetError when nothing comes, the time for it is over, or the pieces of a
        head are too many."""
        left = self.read_until - time.monotonic()
        self.reads_left -= 1
        if left <= 0 or self.reads_left < 0:
            raise ConnectionResetError(errno.ECONNRESET, "The client takes too long, or sends too little at a time.")
        with self._patience(min(READING_STALLS_AFTER, left)):
            data = super().recv(size, flags)
        self.read_until = min(self.read_until, time.monotonic() + self.seconds)
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As socket.sendall; raises ConnectionResetError when the client is WRITING_STALLS_AFTER behind.

        Only the time in which it is waited for counts, not that in which the answer is made; nor is anybody ahead.
        """
        rest = memoryview(data).cast("B")
        while rest:
            if self.behind >= WRITING_STALLS_AFTER:
                raise ConnectionResetError(errno.ECONNRESET, "The client takes its answer too slowly.")
            begin = time.monotonic()
            with self._patience(WRITING_STALLS_AFTER - self.behind):
                taken = self.send(rest, flags)
            self.behind = max(0.0, self.behind + time.monotonic() - begin - taken / LEAST_RATE)
            rest = rest[taken:]

    def closed_by_client(self) -> bool:
        """Whether the client sends no more: it has closed the connection, or its half of it, which looks the same."""
        poll = select.poll()
        poll.register(self, select.POLLRDHUP)  # errors and the end of both halves are always reported
        return bool(poll.poll(0))

    def finish(self) -> None:
        """End the connection when the client has read its answer, or after CLOSING_TAKES."""
        self.read_until = time.monotonic() + CLOSING_TAKES
        for direction in (socket.SHUT_WR, socket.SHUT_RD):
            with suppress(OSError):
                self.shutdown(direction)
                while self.recv(1 << 16):
                    pass

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        """Each call in the block may wait so long, or less if gunicorn has set a shorter time."""
        before = self.gettimeout()
        self.settimeout(max(0.001, seconds if before is None else min(before, seconds)))
        try:
            yield
        except TimeoutError as error:
            raise ConnectionResetError(errno.ECONNRESET, "The client stalls.") from error
        finally:
            self.settimeout(before)


def client_left(environ: Mapping[str, Any]) -> bool:
    """Whether the client of a request, given its WSGI environment, has closed its connection. Takes a microsecond."""
    connection: ClientSocket = environ["gunicorn.socket"]
    return connection.closed_by_client()


class AwaitedBody:
    """A body's reader whose client waits for `100 Continue`: it gets that when the body is first read, or never."""

    def __init__(self, reader: LengthReader | ChunkedReader, client: ClientSocket) -> None:
        self.reader = reader
        self.client: ClientSocket | None = client

    def read(self, size: int) -> bytes:
        """As the reader's read."""
        if self.client:
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.client = None
        data: bytes = self.reader.read(size)
        return data


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose connections are ClientSockets. It has a thread for each, so that the silent hold up nobody.

    When the system has no thread or file for another client, it takes none, and goes on with those it has.
    """

    seconds = math.inf
    """Of its ClientSockets."""

    place = 0
    """A number that no other worker has at the same time."""

    may_accept: Callable[[], bool]
    """Asked again and again: whether to take connections, or leave them to other workers."""

    _refused: OSError | None = None
    """Why the system did not hand over the latest client."""

    _warned = -math.inf

    def get_thread_pool(self) -> PatientThreads:
        """Called at the start."""
        return PatientThreads(self.cfg.threads)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Called in a loop that, before each call, begins to accept if there is room."""
        if lacking := self._lacking():
            self._warn(lacking)
            timeout = min(timeout, _PAUSE)
        if lacking or not self.may_accept():
            self.set_accept_enabled(False)
        super().wait_for_and_dispatch_events(timeout)

    def accept(self, listener: socket.socket) -> None:
        """Called when a client knocks. It goes on knocking if it is not let in."""
        try:
            super().accept(listener)
        except OSError as error:
            self._refused = error

    def _lacking(self) -> str:
        """What the system lacks for another client, or "". A client that it refused is asked for again next time."""
        refused, self._refused = self._refused, None
        if refused:
            self.murder_keepalived(force=refused.errno in (errno.EMFILE, errno.ENFILE))  # of clients that do nothing
            return str(refused)
        return "" if self.tpool.catch_up() else "no thread can be started"

    def _warn(self, lacking: str) -> None:
        if time.monotonic() > self._warned + _WARN_EVERY:
            self._warned = time.monotonic()
            self.log.warning(
                "New clients wait until others leave: %s. Raise the machine's limits, or lower SEMSEG_MAX_CONNECTIONS.",
                lacking,
            )

    def enqueue_req(self, conn: TConn) -> None:
        """Called when a connection is new, and when one that was kept open has a further request."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(fileno=conn.sock.detach())
        conn.sock.seconds, conn.sock.read_until, conn.sock.behind = self.seconds, math.inf, 0.0
        conn.sock.reads_left = READS_OF_A_HEAD
        conn.data_ready = True  # or the thread would let go of a new connection without data, and that be kept for long
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> bool:
        """Called in the request's thread; gunicorn's main one, which closes, would wait for the client meanwhile."""
        keep: bool = super().handle(conn)
        if not keep:
            conn.sock.finish()
        return keep

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Called in the request's thread. Gunicorn closes a connection on which much of a body was not read, after an
        answer that says it is kept: here the answer says what happens. And it sends `100 Continue` before it asks the
        application, which may refuse the body."""
        conn.sock.reads_left = math.inf
        if req._expected_100_continue and _unread(req.body.reader, 1):
            req.body.reader = AwaitedBody(req.body.reader, conn.sock)
        req._expected_100_continue = False
        asked = req.should_close
        req.should_close = lambda: asked() or _unread(req.body.reader, _READ_FOR_NOTHING)
        try:
            kept: bool = super().handle_request(req, conn)
        finally:
            del req.should_close  # it holds the request, which would be kept for the garbage collector
        return kept

    def handle_error(self, _req: Any, client: ClientSocket, addr: Any, exc: Exception) -> None:
        """Called for what is no HTTP, and for an answer that fails before it begins. Gunicorn's own would be HTML."""
        if isinstance(exc, ParseException):
            self.log.warning("Invalid request from %s: %s", addr[0], exc)
            status, error = _REFUSALS.get(type(exc), 400), (str(exc), "Send HTTP/1.1 as RFC 9112 describes it.")
        else:
            self.log.error("Defect while answering", exc_info=exc)
            status, error = 500, internal_error(exc)
        body = error_body(*error)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            client.sendall((head + body).encode())


def _unread(body: LengthReader | ChunkedReader | AwaitedBody, least: int) -> bool:
    """Whether so many bytes of a body may be left, or its client was not asked to send it."""
    if isinstance(body, AwaitedBody):
        return body.client is not None or _unread(body.reader, least)
    return body.length >= least if isinstance(body, LengthReader) else body.parser is not None
