"""gunicorn's worker with threads, made safe against clients that stall and against a lack of threads or files.

gunicorn itself would wait for ever for the rest of a header, and for a client that no longer reads; it would end when
the system has no thread or file for another client.
"""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from types import FrameType
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from semseg.serving.refusals import error_body, internal_error
from semseg.serving.threads import PatientThreads

READING_STALLS_AFTER = 10.0
"""Seconds without a byte of a header or a body after which the connection is closed."""

MAX_HEAD_READS = 1000
"""The most pieces in which a request's head may arrive; browsers and SDKs send it in one or two."""

WRITING_STALLS_AFTER = 30.0
"""Seconds by which a client may lag behind MIN_RATE with its answer before the connection is closed."""

MIN_RATE = 250_000
"""Bytes per second of an answer that a client has to read. The answer's memory is held until it has read them: at this
limit the 19 MB of probabilities of 21 classes and 480 x 480 pixels pass at 180 kB/s, the first 3 MB of any answer at
80 kB/s. The platform allows 60 s for 25 MB."""

CLOSING_TAKES = 2.0
"""Seconds that a client has to read the end of its answer and close the connection."""

ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""The signals that end a worker, which the master blocks around the fork: until the worker handles them."""

_DISCARDED = 1 << 16
"""Bytes of an unread body that gunicorn discards after the answer, so that it can keep the connection."""

_PAUSE = 0.1
"""Seconds without accepting clients when the system has no thread or file for them."""

_WARN_EVERY = 60.0
"""The least seconds between two warnings of such a shortage."""

_REFUSALS = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}
"""The status for requests that are HTTP but exceed a limit; others get 400."""


class ClientSocket(socket.socket):
    """A client's connection that raises ConnectionResetError when it stalls; gunicorn then closes it."""

    seconds = math.inf
    """The time that a request may take to arrive, from its first byte."""

    read_until = math.inf
    """The deadline for the current request to arrive, on time.monotonic's clock."""

    reads_left = math.inf
    """The number of reads left for the current request's head: gunicorn parses it from the start with each piece."""

    lag = 0.0
    """Seconds by which the client lags behind MIN_RATE with the current answer."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As socket.recv; raises ConnectionResetError if the client stalls, the request's time is over, or its head has
        too many pieces."""
        left = self.read_until - time.monotonic()
        self.reads_left -= 1
        if left <= 0 or self.reads_left < 0:
            raise ConnectionResetError(errno.ECONNRESET, "The client takes too long, or sends too little at a time.")
        with self._patience(min(READING_STALLS_AFTER, left)):
            data = super().recv(size, flags)
        self.read_until = min(self.read_until, time.monotonic() + self.seconds)
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As socket.sendall; raises ConnectionResetError when the client lags by WRITING_STALLS_AFTER.

        Only time spent waiting for the client counts, not time spent making the answer; the lag is never negative.
        """
        rest = memoryview(data).cast("B")
        while rest:
            if self.lag >= WRITING_STALLS_AFTER:
                raise ConnectionResetError(errno.ECONNRESET, "The client takes its answer too slowly.")
            begin = time.monotonic()
            with self._patience(WRITING_STALLS_AFTER - self.lag):
                taken = self.send(rest, flags)
            self.lag = max(0.0, self.lag + time.monotonic() - begin - taken / MIN_RATE)
            rest = rest[taken:]

    def closed_by_client(self) -> bool:
        """Whether the client has closed the connection, or its half of it, which looks the same."""
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
        """Limits the time that each call in the block may wait, or keeps gunicorn's limit if that is shorter."""
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
    """A body's reader that sends `100 Continue` when the body is first read, because the client waits for it."""

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
    """A worker whose connections are ClientSockets, each with its own thread, so that silent clients block no others.

    While the system has no thread or file for another client, it accepts none, and continues with those it has.
    """

    seconds = math.inf
    """ClientSocket.seconds for its connections."""

    slot = 0
    """A number that no other worker has at the same time."""

    may_accept: Callable[[], bool]
    """Called repeatedly: whether to accept connections, or leave them to other workers."""

    _accept_error: OSError | None = None
    """Why the latest client could not be accepted."""

    _warned = -math.inf

    def get_thread_pool(self) -> PatientThreads:
        """Called at the start."""
        return PatientThreads(self.cfg.threads)

    def init_signals(self) -> None:
        """Called at the start: one of ENDING that has come since the fork comes now."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def handle_quit(self, _sig: int, _frame: FrameType | None) -> None:
        """Called for SIGINT and SIGQUIT: ends at once.

        gunicorn's own waits for the lock of the threads, which the code that the signal interrupts may hold.
        """
        time.sleep(0.1)  # as there: the master, which may have the same signal, has begun to end
        os._exit(0)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Called in a loop that enables accepting before each call if another connection is allowed."""
        if shortage := self._shortage():
            self._warn(shortage)
            timeout = min(timeout, _PAUSE)
        if shortage or not self.may_accept():
            self.set_accept_enabled(False)
        super().wait_for_and_dispatch_events(timeout)

    def accept(self, listener: socket.socket) -> None:
        """Called when a client wants to connect, and again if it could not be accepted."""
        try:
            super().accept(listener)
        except OSError as error:
            self._accept_error = error

    def _shortage(self) -> str:
        """What the system lacks for another client, or "". Clears the latest error, so that accepting is retried."""
        error, self._accept_error = self._accept_error, None
        if error:
            self.murder_keepalived(force=error.errno in (errno.EMFILE, errno.ENFILE))  # closes idle connections
            return str(error)
        return "" if self.tpool.catch_up() else "no thread can be started"

    def _warn(self, shortage: str) -> None:
        if time.monotonic() > self._warned + _WARN_EVERY:
            self._warned = time.monotonic()
            self.log.warning(
                "New clients wait until others leave: %s. Raise the machine's limits, or lower SEMSEG_MAX_CONNECTIONS.",
                shortage,
            )

    def enqueue_req(self, conn: TConn) -> None:
        """Called for a new connection, and for one that was kept open and has a further request."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(fileno=conn.sock.detach())
        conn.sock.seconds, conn.sock.read_until, conn.sock.lag = self.seconds, math.inf, 0.0
        conn.sock.reads_left = MAX_HEAD_READS
        conn.data_ready = True  # or gunicorn would put a new connection without data aside, and keep it for long
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> bool:
        """Called in the request's thread. It ends the connection here, because in gunicorn's main thread, which closes
        it, that would block the others."""
        keep: bool = super().handle(conn)
        if not keep:
            conn.sock.finish()
        return keep

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Called in the request's thread. Corrects two faults of gunicorn's: its answer promises to keep a connection
        that it then closes because much of a body was not read; and it sends `100 Continue` before it asks the
        application, which may refuse the body."""
        conn.sock.reads_left = math.inf
        if req._expected_100_continue and _unread(req.body.reader, 1):
            req.body.reader = AwaitedBody(req.body.reader, conn.sock)
        req._expected_100_continue = False
        should_close = req.should_close
        req.should_close = lambda: should_close() or _unread(req.body.reader, _DISCARDED)
        try:
            kept: bool = super().handle_request(req, conn)
        finally:
            del req.should_close  # it refers to the request: a cycle that only the garbage collector would free
        return kept

    def handle_error(self, _req: Any, client: ClientSocket, addr: Any, exc: Exception) -> None:
        """Called for requests that are not HTTP, and for errors before the answer begins. Gunicorn would send HTML."""
        if isinstance(exc, ParseException):
            self.log.warning("Invalid request from %s: %s", addr[0], exc)
            status, error = _REFUSALS.get(type(exc), 400), (str(exc), "Send HTTP/1.1 as RFC 9112 describes it.")
        else:
            self.log.error("Bug while answering", exc_info=exc)
            status, error = 500, internal_error(exc)
        body = error_body(*error)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):
            client.sendall((head + body).encode())


def _unread(body: LengthReader | ChunkedReader | AwaitedBody, size: int) -> bool:
    """Whether at least `size` bytes of a body may be left unread, or its client still waits for `100 Continue`."""
    if isinstance(body, AwaitedBody):
        return body.client is not None or _unread(body.reader, size)
    return body.length >= size if isinstance(body, LengthReader) else body.parser is not None
