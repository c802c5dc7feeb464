"""Connections of requests on which a timeout limits a whole response, and not the wait for each of its pieces.

Without it, a server that sends a byte now and then, of the header or of the body, is waited for without end.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class DeadlineAdapter(HTTPAdapter):  # type: ignore[misc]  # requests has no types
    """What requests sends with. The read timeout counts from the moment at which the request has been sent."""

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Returns the connections to a host or a proxy, as requests chooses them."""
        pool = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = _Https if pool.scheme == "https" else _Http
        return pool


class _Reader(io.RawIOBase):
    """The bytes that arrive on a connection until the timeout that it has now is over. Raises TimeoutError then."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw, self._connection = raw, connection
        seconds = connection.gettimeout()
        self._until = None if seconds is None else time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._connection.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))


class _Http(HTTPConnection):
    response_class = _Response


class _Https(HTTPSConnection):
    response_class = _Response
