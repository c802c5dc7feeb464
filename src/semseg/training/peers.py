"""Messages between the processes of `train` on the hosts of a job: JSON objects, one a line, over TCP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

LONGEST = 1 << 20
"""Bytes of a message. A failure with its traceback takes less, in any script, and so do the facts of 1,000 hosts."""

_SEND_SECONDS = 2.0
"""How long a message may wait for the other host to read earlier ones, which it does in every second."""


class Peer:
    """A connection to another host.

    name: of that host, empty until it is known. heard: when something came from it last, on the monotonic clock.
    closed: whether it has ended, does not read, or sent what is no message.
    """

    def __init__(self, connected: socket.socket, name: str = "") -> None:
        self.name = name
        self.heard = time.monotonic()
        self.closed = False
        self._unread = False
        self._socket = connected
        self._received = b""

    def fileno(self) -> int:
        """Returns the number of its socket, to wait for."""
        return self._socket.fileno()

    @property
    def address(self) -> str:
        """The other host's numeric address."""
        return str(self._socket.getpeername()[0])

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
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> list[dict[str, Any]]:
        """Returns the messages that have come; does not wait."""
        if self.closed:
            return []
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
            return []
        messages = []
        for line in lines:
            message = _parsed(line)
            if message is None:
                self.closed = True
                break
            messages.append(message)
        return messages

    def finish(self, seconds: float = 5.0) -> None:
        """Closes the connection once the other host has closed it, or after some seconds: so that it gets all."""
        deadline = time.monotonic() + seconds
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(LONGEST):
                    break
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.closed = True
        self._socket.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the message in a line; None if it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
