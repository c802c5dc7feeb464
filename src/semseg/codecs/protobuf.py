"""Reads protobuf's wire format: the fields of a message, and packed numbers as arrays.

Everything read is bounded by the length of the data, and takes time linear in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semseg.errors import FormatError
from semseg.types import Float32

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""The wire types. Groups, 3 and 4, are not read."""

_LONGEST_VARINT = 10
_MOST_FIELDS = 10_000
"""The most fields of a message; packed numbers are one field however many they are."""

_FIXED = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """A field of a message: its number, its wire type, and its content, for a varint the bytes of this."""

    number: int
    wire_type: int
    content: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Raises FormatError for bytes that are not one, and for more than `_MOST_FIELDS` fields.
    """
    position = 0
    for _ in range(_MOST_FIELDS):
        if position >= len(message):
            return
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        start = position
        if wire_type == VARINT:
            _, end = _varint(message, position)
        elif wire_type == LENGTH:
            length, start = _varint(message, position)
            end = start + length
        elif wire_type in _FIXED:
            end = start + _FIXED[wire_type]
        else:
            raise FormatError(f"has a field of protobuf's wire type {wire_type}, which is not known")
        if end > len(message):
            raise FormatError(f"is cut short: its field {number} needs {end - len(message):,} more bytes")
        yield Field(number, wire_type, message[start:end])
        position = end
    raise FormatError(f"has more than {_MOST_FIELDS:,} fields")


def floats(chunks: list[Field]) -> Float32:
    """Return the numbers of a repeated float field, packed or not, as float32 (N,).

    Of a single packed chunk it is a read-only view. Raises FormatError for fields that hold no floats.
    """
    for chunk in chunks:
        if chunk.wire_type not in (LENGTH, FIXED32) or len(chunk.content) % 4:
            raise FormatError("has values that are no 32-bit floats")
    arrays = [np.frombuffer(chunk.content, "<f4") for chunk in chunks]
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, np.float32), *arrays])


def integers(chunks: list[Field]) -> NDArray[np.int64]:
    """Return the numbers of a repeated integer field, packed or not, as int64 (N,).

    Raises FormatError for fields that hold no integers, or any beyond 0 to 2^35 - 1.
    """
    if any(chunk.wire_type not in (LENGTH, VARINT) for chunk in chunks):
        raise FormatError("has values that are no integers")
    raw = np.frombuffer(b"".join(chunk.content for chunk in chunks), np.uint8)
    if not raw.size:
        return np.empty(0, np.int64)
    if raw[-1] & 0x80:
        raise FormatError("is cut short within an integer")
    ends = np.flatnonzero(raw < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 5:
        raise FormatError("has a negative or very large integer")
    numbers = np.zeros(len(ends), np.int64)
    for place in range(int(lengths.max())):
        longer = np.flatnonzero(lengths > place)
        numbers[longer] |= (raw[starts[longer] + place] & 0x7F).astype(np.int64) << (7 * place)
    return numbers


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The unsigned integer that begins at `position`, and the position of the byte after it."""
    value = 0
    for place, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise FormatError("is cut short, or has an integer of more than ten bytes")
