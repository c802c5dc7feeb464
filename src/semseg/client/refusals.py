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
    one_line,
)

_KINDS: dict[int, type[SemsegError]] = {
    406: NotAcceptableError,
    413: TooLargeError,
    415: UnsupportedMediaError,
}
_BUSY = (429, 503)
_LONGEST = 2048
"""Characters of an error of this project, at most."""


def refusal(status: int, body: bytes, retry_after: str = "") -> SemsegError:
    """Return the error for a response that is not 200; body: its JSON or text; retry_after: its header's value."""
    message, hint = f"The server answered {status}: {one_line(body[:200].decode(errors='replace').strip())}", ""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(body)
        message, hint = (one_line(str(content[key])[:_LONGEST]) for key in ("error", "hint"))
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
