"""Reads and writes RecordIO, MXNet's framing of records in a file or stream.

A record has parts, one unless it is split. A part is a little-endian magic number, a word with its flag (3 bits) and
length (29 bits), and the payload, padded to a multiple of 4 bytes. Flag 0: whole; 1, 2, 3: first, middle, last part.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence

from semseg.errors import DataError, FormatError, TooLargeError

Buffer = bytes | memoryview

MAGIC = 0xCED7230A
MAX_PAYLOAD = (1 << 29) - 1
"""The most bytes that a part's length of 29 bits can express."""

_HEADER = struct.Struct("<II")
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_CHUNK = 1 << 20


def frame(payload: Sequence[Buffer]) -> list[Buffer]:
    """Return the buffers of one whole record (flag 0); the payload's buffers are passed on without a copy.

    Unlike MXRecordIO, this does not split the record where the payload contains the magic number: readers of responses
    cannot join parts, and find the end of a whole record by its length.
    Raises TooLargeError if the payload exceeds MAX_PAYLOAD.
    """
    length = total_bytes(payload)
    if length > MAX_PAYLOAD:
        raise TooLargeError(f"A record of {length:,} bytes is more than RecordIO's {MAX_PAYLOAD:,}.")
    return [_HEADER.pack(MAGIC, length), *payload, bytes(-length % 4)]


def total_bytes(buffers: Sequence[Buffer]) -> int:
    """Return the number of bytes in all buffers."""
    return sum(memoryview(buffer).nbytes for buffer in buffers)


def only_record(data: bytes) -> memoryview:
    """Return the payload of the only record in `data`, a view of it unless the record is split.

    Raises FormatError for no record or several, and the errors of `read_records`.
    """
    if len(data) >= _HEADER.size:
        magic, length = _HEADER.unpack_from(data)  # of a whole record the flag is 0
        if magic == MAGIC and _HEADER.size + length + -length % 4 == len(data):
            return memoryview(data)[_HEADER.size : _HEADER.size + length]
    records = read_records(io.BytesIO(data).read, "the data", MAX_PAYLOAD)
    first = next(records, None)
    if first is None:
        raise FormatError("is empty")
    if next(records, None) is not None:
        raise FormatError("has more than one RecordIO record")
    return memoryview(first)


def read_records(read: Callable[[int], bytes], name: str, max_bytes: int) -> Iterator[bytes]:
    """Yield the records of a stream, one by one; a split record is joined with the magic numbers it was split at.

    read: returns 1 to n bytes for `read(n)`, b"" at the end. It is never asked for more than the current record, nor
    for more than 1 MiB, so that a declared length that never arrives costs no memory. name: the stream, for errors.

    Raises DataError, with the number of the record (from 0) and the byte, for a stream that ends within a record,
    for bytes that are not RecordIO, for parts out of order, and for a record of more than `max_bytes`.
    """
    return _Reader(read, name, max_bytes).records()


class _Reader:
    """Reads records from a stream and counts the bytes and records it has read."""

    def __init__(self, read: Callable[[int], bytes], name: str, max_bytes: int) -> None:
        self._read = read
        self._name = name
        self._max_bytes = max_bytes
        self._offset = 0
        self._number = 0

    def records(self) -> Iterator[bytes]:
        while beginning := self._read(_HEADER.size):
            self._offset += len(beginning)
            yield self._record(beginning)
            self._number += 1

    def _record(self, beginning: bytes) -> bytes:
        record = bytearray()
        flag = self._part(record, beginning, (_WHOLE, _FIRST))
        while flag in (_FIRST, _MIDDLE):
            record += _MAGIC_BYTES
            flag = self._part(record, b"", (_MIDDLE, _LAST))
        return bytes(record)

    def _part(self, record: bytearray, beginning: bytes, flags: tuple[int, int]) -> int:
        """Append the payload of a part to `record` and return its flag.

        beginning: the bytes of its header that have been read; flags: those allowed here.
        """
        start = self._offset - len(beginning)
        header = bytearray(beginning)
        self._take(header, _HEADER.size - len(beginning), "header")
        magic, word = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
        flag, length = word >> 29, word & MAX_PAYLOAD
        here = f"record {self._number} of {self._name}: at byte {start}"
        if magic != MAGIC:
            raise DataError(
                f"{here} it has {header[:4].hex()}, not RecordIO's magic number {_MAGIC_BYTES.hex()}.",
                "RecordWrapperType must be RecordIO.",
            )
        if flag not in flags:
            raise DataError(
                f"{here} it has a part with the flag {flag}, but {flags[0]} or {flags[1]} is expected.",
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
                    f"where {missing} more bytes of its {what} are expected.",
                    "The writer of the stream stopped too early; run the job again.",
                )
            target += chunk
            missing -= len(chunk)
            self._offset += len(chunk)
