"""RecordIO, MXNet's framing of records in a file or stream (container-contract.md section 1.9)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from semseg.errors import DataError, TooLargeError

Buffer = bytes | memoryview

MAGIC = 0xCED7230A
MAX_PAYLOAD = (1 << 29) - 1
"""Bytes: the upper three bits of the length word hold the flag of split records."""

_HEADER = struct.Struct("<II")
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_CHUNK = 1 << 20


def frame(payload: Sequence[Buffer]) -> list[Buffer]:
    """One whole record (flag 0) around the payload's parts, which are passed on without a copy.

    The record is never split where the payload holds the magic number, as MXRecordIO would do: the readers of
    responses cannot join parts, and all find the end of a whole record by its length.
    Raises TooLargeError when the parts together exceed MAX_PAYLOAD.
    """
    length = total_bytes(payload)
    if length > MAX_PAYLOAD:
        raise TooLargeError(f"A record of {length:,} bytes is more than RecordIO's {MAX_PAYLOAD:,}.")
    return [_HEADER.pack(MAGIC, length), *payload, bytes(-length % 4)]


def total_bytes(parts: Sequence[Buffer]) -> int:
    """The number of bytes in all parts."""
    return sum(memoryview(part).nbytes for part in parts)


def read_records(read: Callable[[int], bytes], name: str, max_bytes: int) -> Iterator[bytes]:
    """The records of a stream, one by one; the parts of a split record are joined by the magic number left out there.

    read: gives 1 to n bytes for `read(n)`, b"" at the end. It is never asked for more than belongs to the record
    that is being read, nor for more than 1 MiB, so that a length that is declared but does not arrive costs nothing.
    name: what errors call the stream.

    Raises DataError, with the number of the record (from 0) and the byte, for a stream that ends within a record,
    for other bytes than RecordIO, for parts out of order, and for a record of more than `max_bytes`.
    """
    return _Reader(read, name, max_bytes).records()


class _Reader:
    """How far a stream has been read: `offset` bytes, `number` records."""

    def __init__(self, read: Callable[[int], bytes], name: str, max_bytes: int) -> None:
        self._read = read
        self._name = name
        self._max_bytes = max_bytes
        self._offset = 0
        self._number = 0

    def records(self) -> Iterator[bytes]:
        while begun := self._read(_HEADER.size):
            self._offset += len(begun)
            yield self._record(begun)
            self._number += 1

    def _record(self, begun: bytes) -> bytes:
        record = bytearray()
        flag = self._part(record, begun, (_WHOLE, _FIRST))
        while flag in (_FIRST, _MIDDLE):
            record += _MAGIC_BYTES
            flag = self._part(record, b"", (_MIDDLE, _LAST))
        return bytes(record)

    def _part(self, record: bytearray, begun: bytes, flags: tuple[int, int]) -> int:
        """Append a part's payload, given the beginning of its header and which flags it may have; gives its flag."""
        start = self._offset - len(begun)
        header = bytearray(begun)
        self._take(header, _HEADER.size - len(begun), "header")
        magic, word = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
        flag, length = word >> 29, word & MAX_PAYLOAD
        here = f"record {self._number} of {self._name}: at byte {start}"
        if magic != MAGIC:
            raise DataError(
                f"{here} stands {header[:4].hex()}, not RecordIO's magic number {_MAGIC_BYTES.hex()}.",
                "RecordWrapperType must be RecordIO.",
            )
        if flag not in flags:
            raise DataError(
                f"{here} begins a part with the flag {flag}, but {flags[0]} or {flags[1]} must come there.",
                "The stream is damaged, or not RecordIO; RecordWrapperType must be RecordIO.",
            )
        if len(record) + length > self._max_bytes:
            raise DataError(
                f"{here} it grows to {len(record) + length} bytes, more than the {self._max_bytes} allowed."
            )
        self._take(record, length, "payload")
        self._take(bytearray(), -length % 4, "padding")
        return flag

    def _take(self, target: bytearray, size: int, what: str) -> None:
        """Append the next `size` bytes to `target`."""
        missing = size
        while missing:
            chunk = self._read(min(missing, _CHUNK))
            if not chunk:
                raise DataError(
                    f"record {self._number} of {self._name} is cut short: the stream ends at byte {self._offset}, "
                    f"where {missing} more bytes of its {what} must come.",
                    "Whatever writes the stream ended too early; run the job again.",
                )
            target += chunk
            missing -= len(chunk)
            self._offset += len(chunk)
