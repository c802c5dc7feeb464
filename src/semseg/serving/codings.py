"""Content codings (RFC 9110 section 8.4) of requests, and the ones that their answers may have."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator

from werkzeug.http import parse_accept_header

from semseg.errors import RequestError, UnsupportedCodingError

ACCEPTED = "gzip, identity"
"""The codings that requests may have, as a value of Accept-Encoding."""

_NAMES = ("gzip", "x-gzip")  # equivalent by RFC 9110 section 8.4.1.3
_LONGEST = 1 << 13
"""The most characters of an Accept-Encoding header that is read, a hundred times as many as browsers send."""

_GZIP = 31  # zlib.decompressobj's wbits: any window, and gzip's header
_MAGIC = b"\x1f\x8b"
_MAX_MEMBERS = 2000
"""The most members of a gzip file, as even an empty one takes microseconds. bgzip makes one for every 64 kB."""

_PACKED, _UNPACKED = 1 << 16, 1 << 20
"""Bytes that the decompressor takes and returns at a time. Input that it leaves is copied, so the first is small."""


def check_content_encoding(header: str | None) -> None:
    """Raises UnsupportedCodingError unless a request's Content-Encoding is absent, identity, or gzip once."""
    codings = _codings(header)
    if codings and (len(codings) > 1 or codings[0] not in _NAMES):
        raise UnsupportedCodingError(
            f"Content-Encoding {header!r:.100} is not supported.", "Send the image as it is, or compressed with gzip."
        )


def is_packed(header: str | None) -> bool:
    """Whether a body is gzip; header: its Content-Encoding, which has passed `check_content_encoding`."""
    return bool(_codings(header))


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding header allows gzip; an absent one, or one of more than 8192 characters, does not."""
    if not header or len(header) > _LONGEST:
        return False
    qualities = {coding.lower(): quality for coding, quality in reversed(parse_accept_header(header))}
    return next((qualities[name] for name in (*_NAMES, "*") if name in qualities), 0) > 0


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress the pieces of a gzip file (RFC 1952), at most a megabyte at a time; no pieces give nothing.

    Raises RequestError if the file is damaged, incomplete, or followed by other data.
    """
    small = (piece[start : start + _PACKED] for piece in pieces for start in range(0, len(piece), _PACKED))
    packed = next(small, b"")
    for member in range(_MAX_MEMBERS):
        if not packed:
            return
        if not _MAGIC.startswith(packed[:2]):
            reason = "has other data after its end" if member else "does not begin like gzip"
            raise _invalid(reason, "Send gzip data alone, or leave Content-Encoding out.")
        packed = yield from _member(packed, small)
        packed = packed or next(small, b"")
    raise _invalid(f"has more than {_MAX_MEMBERS:,} members", "Compress the image in one go.")


def _member(packed: bytes, following: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """Yield the data of the gzip member that begins with `packed`; return the bytes read beyond its end."""
    unpacker = zlib.decompressobj(_GZIP)
    while True:
        try:
            data = unpacker.decompress(packed, _UNPACKED)
        except zlib.error as error:
            raise _invalid(f"is damaged: {error}", "Send it again.") from error
        if data:
            yield data
        if unpacker.eof:
            return unpacker.unused_data
        if not packed and not data:
            raise _invalid("is cut short", "Send all of it.")
        packed = unpacker.unconsumed_tail or next(following, b"")  # without any, the rest of its output follows


def _invalid(reason: str, hint: str) -> RequestError:
    return RequestError(f"The request's body is declared as gzip, but {reason}.", hint)


def _codings(header: str | None) -> list[str]:
    """The codings that a Content-Encoding header lists, except identity, which means none."""
    listed = (coding.strip().lower() for coding in (header or "").split(","))
    return [coding for coding in listed if coding not in ("", "identity")]
