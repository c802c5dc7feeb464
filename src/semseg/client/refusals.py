"""The errors that stand for a server's responses other than 200."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from semseg.errors import (
    BusyError,
    NotAcceptableError,
    RequestError,
    SemsegError,
    ServerError,
    TooLargeError,
    UnsupportedMediaError,
)

_KINDS: dict[int, type[SemsegError]] = {
    406: NotAcceptableError,
    413: TooLargeError,
    415: UnsupportedMediaError,
}
_BUSY = (429, 503)


def refusal(status: int, body: bytes, retry_after: str = "") -> SemsegError:
    """Return the error for a response that is not 200; body: its JSON or text; retry_after: its header's value."""
    message, hint = f"The server answered {status}: {body[:200].decode(errors='replace').strip()}", ""
    with suppress(ValueError, KeyError, TypeError):
        content = json.loads(body)
        message, hint = str(content["error"]), str(content["hint"])
    if status in _BUSY:
        return BusyError(message, hint, retry_seconds(retry_after))
    if 400 <= status < 500:
        return _KINDS.get(status, RequestError)(message, hint)
    return ServerError(message, hint, status)


def retry_seconds(header: str) -> int:
    """Return the seconds that a Retry-After header gives, as a number or as a date; 0 if it gives none."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return int(header[:9])
    with suppress(ValueError, TypeError, OverflowError):
        when = parsedate_to_datetime(header)
        return max(0, round((when - datetime.now(UTC)).total_seconds()))
    return 0
