"""Bytes sent to a server as they are, and what comes back read as strictly as RFC 9112 has it."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Answer:
    """One response; headers by names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\t -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~]*)")

_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing takes no time, and throws away what is under way."""

_MOMENT = 0.1
"""Seconds."""


def send(port: int, data: bytes, random: Random) -> bytes:
    """What the server answers until it closes; we send in up to four pieces, then say that no more comes, or vanish.

    First it has a moment to answer: who sends no more counts as gone, and gets no image computed.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 0, 1, 3))))
        try:
            for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                connection.sendall(data[start:end])
            if random.random() < 0.05:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return b""
            select.select([connection], [], [], _MOMENT)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):  # it closed before it had all, which it may
            pass
        received = bytearray()
        while piece := connection.recv(1 << 16):
            received += piece
        return bytes(received)


def answers(received: bytes) -> list[Answer]:
    """The responses on a connection, interim ones left out. Raises ValueError for what is no HTTP."""
    found = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        line, fields = _STATUS_LINE.fullmatch(first), [_HEADER.fullmatch(line) for line in lines]
        if not separator or line is None or None in fields:
            raise ValueError(f"no head of a response: {head[:300]!r}")
        headers = {field[1].decode().lower(): field[2].decode() for field in fields if field}
        status, size = int(line[1]), 0
        if status >= 200 and status != 204:
            size = int(headers["content-length"])
        if len(received) < size:
            raise ValueError(f"{len(received)} of {size} bytes of a body")
        if status >= 200:
            found.append(Answer(status, headers, received[:size]))
        received = received[size:]
    return found


def drip(port: int, data: bytes) -> bytes:
    """What the server answers until it closes, when it gets a byte at a time."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.005)
        return connection.makefile("rb").read()
