"""Sends an image to a server over HTTP."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from semseg.client.refusals import refusal
from semseg.client.sources import Source
from semseg.client.transport import Reply
from semseg.errors import ServerError, UserError

_PIECE = 1 << 16
_LONGEST_ERROR = 1 << 14
_CONNECTIONS = 32


class HttpTransport:
    """A server at an address, such as ``http://localhost:8080``; connections are kept and shared by threads."""

    def __init__(self, url: str) -> None:
        """Raises UserError for an address that is not one of HTTP."""
        import requests  # here: endpoints are called without it

        from semseg.client.deadline import DeadlineAdapter

        if not _is_address(url):
            raise UserError(f"{url!r:.100} is not the address of a server.", "Give one like 'http://localhost:8080'.")
        self._url = url.rstrip("/").removesuffix("/invocations") + "/invocations"
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter(pool_maxsize=_CONNECTIONS))

    def send(self, source: Source, accept: str, seconds: float, most: int) -> Reply:
        """Return the response for an image; a connection that breaks is tried once more."""
        import requests

        until = time.monotonic() + seconds
        for last in (False, True):
            try:
                return self._post(source, accept, until, most)
            except requests.RequestException as error:
                late = isinstance(error, requests.Timeout) or time.monotonic() >= until
                lost = isinstance(error, requests.ConnectionError)
                if lost and not late and not last:
                    continue  # a server may close an idle connection at the moment it is used
                if late:
                    message, hint = f"{self._url} did not answer within {seconds:.3g} s.", "Is it overloaded?"
                elif lost:
                    message, hint = f"{self._url} cannot be reached: {_cause(error)}.", "Is it running?"
                else:
                    message, hint = f"The response of {self._url} is broken: {_cause(error)}.", "Try again."
                raise ServerError(message, hint) from error
        raise AssertionError("unreachable")

    def _post(self, source: Source, accept: str, until: float, most: int) -> Reply:
        import requests
        from urllib3 import Timeout

        left = max(0.001, until - time.monotonic())
        with self._session.post(
            self._url,
            data=source.data,
            headers={"Content-Type": source.content_type, "Accept": accept},
            timeout=Timeout(total=left),  # connecting, sending and receiving together
            allow_redirects=False,
            stream=True,
        ) as response:
            most = most if response.status_code == requests.codes.ok else _LONGEST_ERROR
            body = bytearray()
            for piece in response.iter_content(_PIECE):
                body += piece
                if len(body) > most:
                    break
            if response.status_code != requests.codes.ok:
                raise refusal(response.status_code, bytes(body), response.headers.get("Retry-After", ""))
            if len(body) > most:
                raise ServerError(f"The response of {self._url} has more than {most:,} bytes.", status=200)
            return Reply(bytes(body), response.headers.get("Content-Type", ""))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _is_address(url: str) -> bool:
    """Whether a URL is of HTTP and has a host, and a port, if any, that exists."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _cause(error: BaseException) -> str:
    """The first error of a chain; requests wraps it in much longer messages."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return (str(error) or type(error).__name__)[:200]
