"""Class probabilities as recordio-protobuf, the answer of the original (algorithm.md section 7).

One RecordIO record holds one `aialgs.data.Record` (container-contract.md section 3.1) with two features: "target",
the probabilities, and "shape", the four sizes [1, C, H, W]. The message is written by hand around the array's own
memory: the same bytes as google.protobuf's deterministic serialisation, without its copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semseg.codecs.recordio import MAX_PAYLOAD, Buffer, frame, total_bytes
from semseg.errors import TooLargeError
from semseg.types import Float32

# Field numbers of record.proto.
_RECORD_FEATURES = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_FLOAT32_TENSOR, _VALUE_INT32_TENSOR = 2, 7
_TENSOR_VALUES = 1

_ENVELOPE = 256
"""Bytes, more than all tags, lengths, keys and sizes around the values need."""


def encode_probabilities(probabilities: Float32) -> list[Buffer]:
    """Probabilities float32 (C, H, W) as the parts of one record, to be sent one after the other.

    The large part is a view of the array, which must not change before it is sent.
    Raises TooLargeError as check_size does.
    """
    classes, height, width = probabilities.shape
    check_size(classes, height, width)
    values = np.ascontiguousarray(probabilities, dtype="<f4").reshape(-1).view(np.uint8).data
    shape = b"".join(map(_varint, (1, classes, height, width)))
    return frame(
        [
            *_feature("shape", _VALUE_INT32_TENSOR, shape),  # before "target": in the order of the keys
            *_feature("target", _VALUE_FLOAT32_TENSOR, values),
        ]
    )


def check_size(classes: int, height: int, width: int) -> None:
    """Raises TooLargeError, with the ways out, when the probabilities do not fit one record."""
    size = 4 * classes * height * width
    if size + _ENVELOPE > MAX_PAYLOAD:
        raise TooLargeError(
            f"The probabilities of {classes} classes for {width} x {height} pixels are {size:,} bytes, "
            f"more than the {MAX_PAYLOAD:,} of one RecordIO record.",
            "Ask for the mask with Accept: image/png, or send a smaller image or parts of it.",
        )


def _feature(key: str, kind: int, values: Buffer) -> list[Buffer]:
    """One entry of Record.features: a key and a tensor of `kind` with packed values."""
    tensor = _field(_TENSOR_VALUES, [values])
    value = _field(_ENTRY_VALUE, _field(kind, tensor))
    return _field(_RECORD_FEATURES, [*_field(_ENTRY_KEY, [key.encode()]), *value])


def _field(number: int, content: Sequence[Buffer]) -> list[Buffer]:
    """A field of protobuf's wire type 2: tag, length, content."""
    return [_varint(number << 3 | 2) + _varint(total_bytes(content)), *content]


def _varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
