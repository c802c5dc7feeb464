"""Sends an image to a server over HTTP."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from semseg.client.refusals import refusal
from semseg.client.sources import Source
from semseg.client.transport import Reply
from semseg.errors import ServerError, UserError

_CONNECT_SECONDS = 10.0
_PIECE = 1 << 16
_LONGEST_ERROR = 1 << 14
_CONNECTIONS = 32


class HttpTransport:
    """A server at an address, such as ``http://localhost:8080``; connections are kept and shared by threads."""

    def __init__(self, url: str) -> None:
        """Raises UserError for an address that is not one of HTTP."""
        import requests  # here: endpoints are called without it
        from requests.adapters import HTTPAdapter

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url!r:.100} is not the address of a server.", "Give one like 'http://localhost:8080'.")
        self._url = url if parts.path.endswith("/invocations") else url.rstrip("/") + "/invocations"
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

    def send(self, source: Source, accept: str, seconds: float, most: int) -> Reply:
        """Return the response for an image; a connection that breaks is tried once more."""
        import requests

        until = time.monotonic() + seconds
        for last in (False, True):
            try:
                return self._post(source, accept, until, most)
            except requests.Timeout as error:
                raise ServerError(f"{self._url} did not answer within {seconds:.3g} s.", "Is it overloaded?") from error
            except requests.ConnectionError as error:
                if last:  # a server may close an idle connection at the moment it is used
                    raise ServerError(f"{self._url} cannot be reached: {_cause(error)}.", "Is it running?") from error
            except requests.RequestException as error:
                raise ServerError(f"The response of {self._url} is broken: {_cause(error)}.", "Try again.") from error
        raise AssertionError("unreachable")

    def _post(self, source: Source, accept: str, until: float, most: int) -> Reply:
        import requests

        left = max(0.001, until - time.monotonic())
        with self._session.post(
            self._url,
            data=source.data,
            headers={"Content-Type": source.content_type, "Accept": accept},
            timeout=(min(_CONNECT_SECONDS, left), left),
            allow_redirects=False,
            stream=True,
        ) as response:
            most = most if response.status_code == requests.codes.ok else _LONGEST_ERROR
            body = bytearray()
            for piece in response.iter_content(_PIECE):
                body += piece
                if len(body) > most:
                    break
                if time.monotonic() > until:
                    raise requests.ReadTimeout
            if response.status_code != requests.codes.ok:
                raise refusal(response.status_code, bytes(body), response.headers.get("Retry-After", ""))
            if len(body) > most:
                raise ServerError(f"The response of {self._url} has more than {most:,} bytes.", status=200)
            return Reply(bytes(body), response.headers.get("Content-Type", ""))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _cause(error: BaseException) -> str:
    """The first error of a chain; requests wraps it in much longer messages."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return (str(error) or type(error).__name__)[:200]
