"""Arrays as .npy files, which numpy and libraries of most languages load (numpy.lib.format)."""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from semseg.codecs.recordio import Buffer
from semseg.errors import FormatError

_HEADER = re.compile(
    rb"\x93NUMPY\x01\0(..)(\{'descr': '(<f4|<f2|\|u1)', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,9}, ?){,8}[0-9]{,9})\), \} *\n)",
    re.DOTALL,
)
"""The header that numpy writes for the arrays of responses; others would have to be evaluated as Python."""

_LONGEST_HEADER = 1024


def encode_npy(array: NDArray[Any]) -> list[Buffer]:
    """Return an array of numbers as the buffers of one file, to be sent one after the other.

    The large buffer is a view of a C-contiguous array's memory, which must not change before it is sent.
    """
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    description = npy_format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    npy_format.write_array_header_1_0(header, description)  # type: ignore[no-untyped-call]
    return [header.getvalue(), array.reshape(-1).view(np.uint8).data]


def decode_npy(data: bytes) -> NDArray[Any]:
    """Return the array of a .npy file of version 1.0 in C order, float32, float16 or uint8: a read-only view of `data`.

    Nothing is unpickled. Raises FormatError for other files, and for damaged ones.
    """
    header = _HEADER.match(data, 0, _LONGEST_HEADER)
    if not header or int.from_bytes(header[1], "little") != len(header[2]):
        raise FormatError("is not a .npy file of version 1.0 with float32, float16 or uint8 in C order")
    shape = [int(size) for size in header[4].split(b",") if size.strip().isdigit()]
    dtype = np.dtype(header[3].decode())
    if prod(shape) * dtype.itemsize != len(data) - header.end():
        raise FormatError(f"has {len(data) - header.end():,} bytes of values, but the shape {shape}")
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
    return array
