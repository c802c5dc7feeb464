"""The bodies of responses on their way out, a piece at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from semseg.codecs.recordio import Buffer, total_bytes

_PIECE = 1 << 20
_LEVEL = 1  # on class ids and on probabilities of 8 bits level 6 takes up to four times as long, for a tenth less
_GZIP = 31  # zlib.compressobj's wbits: the largest window, and gzip's header


def response_body(parts: Sequence[Buffer], gzip: bool) -> tuple[Iterator[bytes], dict[str, str]]:
    """The body that has these parts, and the headers that belong to it: its encoding, or else its length."""
    if gzip:
        return gzipped(pieces(parts)), {"Content-Encoding": "gzip"}
    return pieces(parts), {"Content-Length": str(total_bytes(parts))}


def pieces(parts: Sequence[Buffer]) -> Iterator[bytes]:
    """The parts as bytes objects, which is all that gunicorn sends, few of which exist at a time."""
    for part in parts:
        for start in range(0, len(part), _PIECE):
            yield bytes(part[start : start + _PIECE])


def gzipped(body: Iterable[bytes]) -> Iterator[bytes]:
    """The same as one gzip file (RFC 1952), compressed while it is sent."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in body:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
