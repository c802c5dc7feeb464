"""Reads and writes MXNet's parameter files without MXNet; files are not trusted.

The format is MXNet's NDArray list (`NDArray::Save` in mxnet 1.9.1, src/ndarray/ndarray.cc), little-endian:

    uint64 0x112, uint64 0
    uint64 count, then that number of arrays:
        uint32 magic: 0xF993FAC9 (V2) or 0xF993FACA (V3), then int32 storage type, 0 for dense
                      0xF993FAC8 (V1), no storage type
                      anything else is the number of dimensions of the oldest layout
        int32 number of dimensions, int64 each dimension (oldest layout: uint32 each)
        int32 device type, int32 device id, int32 dtype, the values
    uint64 count, then that number of names: uint64 length, UTF-8
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.errors import ArtifactError, FormatError
from semseg.files import map_file, naming_file
from semseg.types import Arrays

_FILE_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_CPU = 1
_DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}  # mshadow's TypeFlag
_MAX_ITEMS = 10_000  # the largest network here has 600 arrays
_MAX_DIMENSIONS = 8
_MAX_NAME = 1024


def read_params(path: Path) -> Arrays:
    """Return the arrays of a file by name, without a leading `arg:` or `aux:`.

    They are read-only views of the mapped file, read when they are used. Only dense arrays of float16, 32, 64, int8,
    32, 64 and uint8 are supported. Raises ArtifactError, naming the file and the fault.
    """
    with naming_file(path, ArtifactError, "It must be a file that GluonCV's save_parameters wrote, copied whole."):
        return _parse(_Cursor(map_file(path)))


def write_params(path: Path, arrays: Arrays) -> None:
    """Write arrays exactly as `mx.nd.save` does, byte for byte.

    Unlike `mx.nd.save`, it raises an OSError with the reason when writing fails, for example on a full disk.
    arrays: by name, of the dtypes that `read_params` reads and with at least one dimension.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", _FILE_MAGIC, 0, len(arrays)))
        for array in arrays.values():
            file.write(_header(array))
            file.write(np.ascontiguousarray(array).data)
        file.write(struct.pack("<Q", len(arrays)))
        for name in map(str.encode, arrays):
            file.write(struct.pack("<Q", len(name)) + name)


def _header(array: NDArray[Any]) -> bytes:
    """The header of an array, which precedes its values."""
    dtype = next(code for code, name in _DTYPES.items() if np.dtype(name) == array.dtype)
    return struct.pack(f"<Iii{array.ndim}qiii", _V2, _DENSE, array.ndim, *array.shape, _CPU, 0, dtype)


class _Cursor:
    """A position in a buffer; moving past its end raises FormatError."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._offset = 0

    def skip(self, size: int) -> int:
        """Move past the next `size` bytes and return their offset."""
        start, left = self._offset, self.left()
        if size > left:
            raise FormatError(f"is truncated: at byte {start} it should have {size} more, but it has {left}")
        self._offset += size
        return start

    def left(self) -> int:
        return len(self._buffer) - self._offset

    def number(self, form: str) -> int:
        """Return the next integer; `form` is its format character in `struct`."""
        value: int = struct.unpack_from("<" + form, self._buffer, self.skip(struct.calcsize("<" + form)))[0]
        return value

    def text(self, size: int) -> str:
        start = self.skip(size)
        return str(self._buffer[start : start + size], "utf-8")

    def array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return a view of the next values."""
        count = math.prod(shape)
        start = self.skip(count * np.dtype(dtype).itemsize)
        return np.frombuffer(self._buffer, dtype, count, start).reshape(shape)


def _parse(cursor: _Cursor) -> Arrays:
    if cursor.left() < 16 or cursor.number("Q") != _FILE_MAGIC:
        raise FormatError("is not an MXNet parameter file")
    cursor.skip(8)
    arrays = [_array(cursor) for _ in range(_count(cursor, smallest=20))]
    names = [_name(cursor) for _ in range(_count(cursor, smallest=8))]
    if cursor.left():
        raise FormatError(f"has {cursor.left()} bytes too many")
    if len(names) != len(arrays):
        raise FormatError(f"has {len(arrays)} arrays, but {len(names)} names")
    if len(set(names)) != len(names):
        raise FormatError("has two arrays with the same name")
    return dict(zip(names, arrays, strict=True))


def _count(cursor: _Cursor, smallest: int) -> int:
    """Read a number of items, each of which takes at least `smallest` bytes."""
    count = cursor.number("Q")
    if count > min(cursor.left() // smallest, _MAX_ITEMS):
        raise FormatError(f"is truncated or not a network: {count} items in its last {cursor.left()} bytes")
    return count


def _array(cursor: _Cursor) -> NDArray[Any]:
    shape = _shape(cursor)
    cursor.skip(8)  # the device it was on
    dtype = cursor.number("i")
    if dtype not in _DTYPES:
        raise FormatError(f"has an array of the unknown dtype {dtype}")
    return cursor.array(shape, _DTYPES[dtype])


def _shape(cursor: _Cursor) -> tuple[int, ...]:
    magic = cursor.number("I")
    if magic in (_V2, _V3) and cursor.number("i") != _DENSE:
        raise FormatError("has a sparse array")
    oldest = magic not in (_V1, _V2, _V3)
    dimensions = magic if oldest else cursor.number("i")
    if not (0 if magic == _V3 else 1) <= dimensions <= _MAX_DIMENSIONS:
        raise FormatError(f"has an array of {dimensions} dimensions")
    shape = tuple(cursor.number("I" if oldest else "q") for _ in range(dimensions))
    if min(shape, default=1) < 1:
        raise FormatError(f"has an array of the shape {shape}")
    return shape


def _name(cursor: _Cursor) -> str:
    size = cursor.number("Q")
    if size > _MAX_NAME:
        raise FormatError(f"has a name of {size} bytes")
    try:
        return cursor.text(size).removeprefix("arg:").removeprefix("aux:")
    except UnicodeDecodeError:
        raise FormatError("has a name that is not UTF-8") from None
