"""PNG files made by hand, for what Pillow does not write."""

from __future__ import annotations

import struct
import zlib


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    """A file with other chunks before its rows, each of which begins with its filter."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


def png_row(width: int, depth: int, colour: int, row: bytes, *others: bytes) -> bytes:
    """A file of one row, without a filter."""
    return png(width, 1, depth, colour, b"\0" + row, *others)
