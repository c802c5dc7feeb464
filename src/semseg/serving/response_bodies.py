"""Sends the bodies of responses piece by piece, compressed if the client accepts it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from semseg.codecs.recordio import Buffer, total_bytes

_PIECE = 1 << 20
_LEVEL = 1  # level 6 takes up to four times as long, and saves a tenth, on class ids and on 8-bit probabilities
_GZIP = 31  # zlib.compressobj's wbits: the largest window, and gzip's header


def response_body(buffers: Sequence[Buffer], gzip: bool) -> tuple[Iterator[bytes], dict[str, str]]:
    """The body made of these buffers, and its headers: the encoding if it is gzip, or else the length."""
    if gzip:
        return gzipped(pieces(buffers)), {"Content-Encoding": "gzip"}
    return pieces(buffers), {"Content-Length": str(total_bytes(buffers))}


def pieces(buffers: Sequence[Buffer]) -> Iterator[bytes]:
    """The buffers as small bytes objects, made one by one: gunicorn sends nothing but bytes."""
    for buffer in buffers:
        for start in range(0, len(buffer), _PIECE):
            yield bytes(buffer[start : start + _PIECE])


def gzipped(body: Iterable[bytes]) -> Iterator[bytes]:
    """The body as one gzip file (RFC 1952), compressed while it is sent."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in body:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
