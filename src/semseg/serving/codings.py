"""Content codings (RFC 9110 section 8.4): which one a request's body has, and which its answer may have."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator

from werkzeug.http import parse_accept_header

from semseg.errors import RequestError, UnsupportedCodingError

ACCEPTED = "gzip, identity"
"""The codings of requests, as Accept-Encoding lists them."""

_NAMES = ("gzip", "x-gzip")  # RFC 9110 section 8.4.1.3 has them mean the same
_LONGEST = 1 << 13
"""Characters of an Accept-Encoding, a hundred times as many as browsers send."""

_GZIP = 31  # zlib.decompressobj's wbits: any window, and gzip's header
_MAGIC = b"\x1f\x8b"
_MAX_MEMBERS = 2000
"""Of a gzip file; they take microseconds each, even such as hold nothing. bgzip makes one for every 64 kB."""

_PACKED, _UNPACKED = 1 << 16, 1 << 20
"""Bytes that the unpacker gets and gives at a time. What it does not come to is copied, hence few."""


def check_content_encoding(header: str | None) -> None:
    """Raises UnsupportedCodingError when a request's Content-Encoding is more than gzip, once, or nothing."""
    codings = _codings(header)
    if codings and (len(codings) > 1 or codings[0] not in _NAMES):
        raise UnsupportedCodingError(
            f"Content-Encoding {header!r:.100} is not supported.", "Send the image as it is, or compressed with gzip."
        )


def is_packed(header: str | None) -> bool:
    """Whether a body with a Content-Encoding that `check_content_encoding` has let pass is gzip."""
    return bool(_codings(header))


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding asks for gzip; none, and one of thousands of characters, does not."""
    if not header or len(header) > _LONGEST:
        return False
    qualities = {coding.lower(): quality for coding, quality in reversed(parse_accept_header(header))}
    return next((qualities[name] for name in (*_NAMES, "*") if name in qualities), 0) > 0


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What the pieces of a gzip file (RFC 1952) unpack to, a megabyte at a time; nothing of no pieces.

    Raises RequestError for what is no whole gzip file of a sound checksum, or has something behind it.
    """
    small = (piece[start : start + _PACKED] for piece in pieces for start in range(0, len(piece), _PACKED))
    packed = next(small, b"")
    for member in range(_MAX_MEMBERS):
        if not packed:
            return
        if not _MAGIC.startswith(packed[:2]):
            where = "has something behind its end" if member else "does not begin as gzip does"
            raise _unsound(where, "Send gzip data alone, or leave Content-Encoding out.")
        packed = yield from _member(packed, small)
        packed = packed or next(small, b"")
    raise _unsound(f"is made of more than {_MAX_MEMBERS:,} members", "Compress the image in one go.")


def _member(packed: bytes, following: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """What the gzip member that begins with `packed` unpacks to; returns what was read beyond its end."""
    unpacker = zlib.decompressobj(_GZIP)
    while True:
        try:
            data = unpacker.decompress(packed, _UNPACKED)
        except zlib.error as error:
            raise _unsound(f"is damaged: {error}", "Send it again.") from error
        if data:
            yield data
        if unpacker.eof:
            return unpacker.unused_data
        if not packed and not data:
            raise _unsound("is cut short", "Send all of it.")
        packed = unpacker.unconsumed_tail or next(following, b"")  # with none, what the unpacker still holds comes


def _unsound(what: str, hint: str) -> RequestError:
    return RequestError(f"The request's body is declared as gzip, and {what}.", hint)


def _codings(header: str | None) -> list[str]:
    """The codings that a Content-Encoding lists, but for identity, which is none."""
    listed = (coding.strip().lower() for coding in (header or "").split(","))
    return [coding for coding in listed if coding not in ("", "identity")]
