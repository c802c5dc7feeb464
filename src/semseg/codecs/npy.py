"""Writes arrays as .npy files, which numpy and libraries of most languages load (numpy.lib.format)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from semseg.codecs.recordio import Buffer


def encode_npy(array: NDArray[Any]) -> list[Buffer]:
    """Return an array of numbers as the buffers of one file, to be sent one after the other.

    The large buffer is a view of a C-contiguous array's memory, which must not change before it is sent.
    """
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    description = npy_format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    npy_format.write_array_header_1_0(header, description)  # type: ignore[no-untyped-call]
    return [header.getvalue(), array.reshape(-1).view(np.uint8).data]
