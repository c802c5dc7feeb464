"""Messages between the processes of `train` on the hosts of a job: JSON objects, one a line, over TCP."""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

LONGEST = 1 << 20
"""Bytes of a message. A failure with its traceback takes less, in any script, and so do the facts of 1,000 hosts."""

_SEND_SECONDS = 2.0
"""How long a message may wait for the other host to read earlier ones, which it does in every second."""


class Peer:
    """A connection to another host.

    name: of that host, empty until it is known. address: its numeric address, of a host that was called.
    heard: when something came from it last, on the monotonic clock.
    closed: whether it has ended, does not read, or sent what is no message.
    """

    def __init__(self, connected: socket.socket, name: str = "", address: str = "") -> None:
        self.name = name
        self.address = address
        self.heard = time.monotonic()
        self.closed = False
        self._unread = False
        self._socket = connected
        self._received = b""
        self._lines: deque[bytes] = deque()

    def fileno(self) -> int:
        """Returns the number of its socket, to wait for."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message, unless the connection is closed or the other host does not read."""
        if self.closed or self._unread:
            return
        try:
            self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._unread = True  # what has come before can still be received

    def send_last(self, message: Mapping[str, Any]) -> None:
        """Sends a message, and says that none will follow."""
        self.send(message)
        self.end_sending()

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yields the messages that have come; does not wait. Those that are not taken come with the next call."""
        if not self.closed:
            self._read()
        while self._lines:
            message = _parsed(self._lines.popleft())
            if message is None:
                self.closed = True
                self._lines.clear()
                return
            yield message

    def _read(self) -> None:
        try:
            self._socket.setblocking(False)
            while data := self._socket.recv(LONGEST):
                self._received += data
                self.heard = time.monotonic()
                if len(self._received) > LONGEST:
                    break
            else:
                self.closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        self.closed = self.closed or self._unread
        *lines, self._received = self._received.split(b"\n")
        if max(map(len, (*lines, self._received))) > LONGEST:
            self.closed = True
        else:
            self._lines.extend(lines)

    def end_sending(self) -> None:
        """Says that no message will follow."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def drain(self, deadline: float) -> None:
        """Takes what comes until the other host closes the connection, or the deadline on the monotonic clock."""
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(LONGEST):
                    break
        except OSError:
            pass

    def close(self) -> None:
        """Closes the connection."""
        self.closed = True
        self._lines.clear()
        self._socket.close()


def finish(peers: Iterable[Peer], seconds: float = 5.0) -> None:
    """Closes connections once the other hosts have closed them, or after some seconds in all: so that they get all."""
    open_ones, deadline = list(peers), time.monotonic() + seconds
    for peer in open_ones:
        peer.end_sending()
    for peer in open_ones:
        peer.drain(deadline)
        peer.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the message in a line; None if it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
