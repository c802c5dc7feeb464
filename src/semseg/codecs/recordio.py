"""RecordIO, MXNet's framing of records in a file or stream (container-contract.md section 1.9)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from semseg.errors import TooLargeError

Buffer = bytes | memoryview

MAGIC = 0xCED7230A
MAX_PAYLOAD = (1 << 29) - 1
"""Bytes: the upper three bits of the length word hold the flag of split records."""


def frame(payload: Sequence[Buffer]) -> list[Buffer]:
    """One whole record (flag 0) around the payload's parts, which are passed on without a copy.

    The record is never split where the payload holds the magic number, as MXRecordIO would do: the readers of
    responses cannot join parts, and all find the end of a whole record by its length.
    Raises TooLargeError when the parts together exceed MAX_PAYLOAD.
    """
    length = total_bytes(payload)
    if length > MAX_PAYLOAD:
        raise TooLargeError(f"A record of {length:,} bytes is more than RecordIO's {MAX_PAYLOAD:,}.")
    return [struct.pack("<II", MAGIC, length), *payload, bytes(-length % 4)]


def total_bytes(parts: Sequence[Buffer]) -> int:
    """The number of bytes in all parts."""
    return sum(memoryview(part).nbytes for part in parts)
