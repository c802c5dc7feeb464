from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from semseg.client.refusals import refusal, retry_seconds
from semseg.errors import (
    BusyError,
    NotAcceptableError,
    RequestError,
    SemsegError,
    ServerError,
    TooLargeError,
    UnsupportedMediaError,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestError),
        (404, RequestError),
        (406, NotAcceptableError),
        (413, TooLargeError),
        (415, UnsupportedMediaError),
        (429, BusyError),
        (500, ServerError),
        (502, ServerError),
        (503, BusyError),
        (507, ServerError),
        (204, ServerError),
        (301, ServerError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[SemsegError]) -> None:
    error = refusal(status, b'{"error": "What is wrong.", "hint": "How to mend it."}', "7")
    assert type(error) is kind
    assert str(error) == "What is wrong. How to mend it."
    assert getattr(error, "status", status) == status
    assert getattr(error, "retry_after", 7) == 7


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b"[1]", b'{"error": 1}', b"\xff\xfe", b"null", b"[" * 16_000]
)
def test_other_bodies_are_quoted(body: bytes) -> None:
    assert str(refusal(502, body)) == f"The server answered 502: {body[:200].decode(errors='replace')}".rstrip()


def test_errors_are_on_one_line_and_not_long() -> None:
    body = json.dumps({"error": "one\ntwo\x1b[31m", "hint": "x" * 10_000}).encode()
    assert str(refusal(400, body)).startswith(r"'one\ntwo\x1b[31m' xxx")
    assert len(str(refusal(400, body))) < 2100
    assert str(refusal(400, b"<html>\n<h1>Bad")) == r"The server answered 400: '<html>\n<h1>Bad'"


def test_long_bodies_are_cut() -> None:
    assert len(str(refusal(502, b"x" * 10**6))) < 300


@pytest.mark.parametrize(
    ("header", "seconds"), [("", 0), ("7", 7), (" 0 ", 0), ("-3", 0), ("1.5", 0), ("soon", 0), ("9" * 50, 999999999)]
)
def test_seconds_of_retry_after(header: str, seconds: int) -> None:
    assert retry_seconds(header) == seconds


def test_dates_of_retry_after() -> None:
    now = datetime.now(UTC)
    assert 3590 < retry_seconds(format_datetime(now + timedelta(hours=1), usegmt=True)) <= 3600
    assert retry_seconds(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0
    assert retry_seconds("Mon, 30 Nov 2026 20:00:00") == 0  # without a time zone it says no moment
