"""Encodes class probabilities as recordio-protobuf, the built-in algorithm's response, or class ids in a smaller form.

One RecordIO record holds one `aialgs.data.Record` with two features: "target", the probabilities, and "shape", the four
sizes [1, C, H, W]. The smaller form, this project's own, has the class ids, int32, as "target", optionally the
probability of each as "confidence", and the "shape" [1, H, W]. The message is written around the array's own memory:
the same bytes as google.protobuf's deterministic serialisation, without its copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semseg.codecs.recordio import MAX_PAYLOAD, Buffer, frame, total_bytes
from semseg.errors import TooLargeError
from semseg.types import Float32, UInt8

# Field numbers of record.proto.
_RECORD_FEATURES = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_FLOAT32_TENSOR, _VALUE_INT32_TENSOR = 2, 7
_TENSOR_VALUES = 1

_TWO_BYTES = 128
"""The smallest number whose varint has two bytes: for 128 to 255 these are the number itself and 1."""

_CHUNK = 1 << 16

ENVELOPE = 256
"""Upper bound in bytes for the tags, lengths, keys and sizes around the values."""


def encode_probabilities(probabilities: Float32) -> list[Buffer]:
    """Return probabilities float32 (C, H, W) as the buffers of one record, to be sent one after the other.

    The large buffer is a view of the array, which must not change before it is sent.
    Raises TooLargeError as check_size does.
    """
    check_size(probabilities.nbytes)
    return frame(
        [
            *_shape(probabilities.shape),
            *_feature("target", _VALUE_FLOAT32_TENSOR, [_float_bytes(probabilities)]),
        ]
    )


def encode_classes(labels: UInt8, confidence: Float32 | None = None) -> list[Buffer]:
    """Return class ids uint8 (H, W), and the probability of each, float32 (H, W), if given, as buffers of one record.

    The large buffers may be views of the arrays, which must not change before they are sent.
    Raises TooLargeError as check_size does.
    """
    ids = _id_bytes(np.ascontiguousarray(labels).reshape(-1))
    check_size(total_bytes(ids) + (0 if confidence is None else confidence.nbytes))
    optional = [] if confidence is None else _feature("confidence", _VALUE_FLOAT32_TENSOR, [_float_bytes(confidence)])
    return frame([*optional, *_shape(labels.shape), *_feature("target", _VALUE_INT32_TENSOR, ids)])


def check_size(size: int) -> None:
    """Raise TooLargeError if `size` bytes of values do not fit into one record."""
    if size + ENVELOPE > MAX_PAYLOAD:
        raise TooLargeError(
            f"The response has {size:,} bytes of values, more than the {MAX_PAYLOAD:,} of one RecordIO record.",
            "Ask for the mask with Accept: image/png, or send a smaller image or parts of it.",
        )


def _shape(sizes: Sequence[int]) -> list[Buffer]:
    """The feature "shape": the sizes of an array, preceded by 1 for the batch. Features are sorted by key."""
    return _feature("shape", _VALUE_INT32_TENSOR, [b"".join(map(_varint, (1, *sizes)))])


def _float_bytes(values: Float32) -> Buffer:
    return np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8).data


def _id_bytes(ids: UInt8) -> list[Buffer]:
    """The varints of class ids, uint8 (N,): a view of the ids if all take one byte."""
    if ids.size and ids.max() < _TWO_BYTES:
        return [ids.data]
    chunks: list[Buffer] = []
    for start in range(0, ids.size, _CHUNK):
        first = ids[start : start + _CHUNK]
        both = np.stack([first, np.ones_like(first)], axis=1)
        chunks.append(both[np.stack([np.ones(first.size, bool), first >= _TWO_BYTES], axis=1)].data)
    return chunks


def _feature(key: str, kind: int, values: Sequence[Buffer]) -> list[Buffer]:
    """One entry of Record.features: a key and a tensor of `kind` with packed values."""
    tensor = _field(_TENSOR_VALUES, values)
    value = _field(_ENTRY_VALUE, _field(kind, tensor))
    return _field(_RECORD_FEATURES, [*_field(_ENTRY_KEY, [key.encode()]), *value])


def _field(number: int, content: Sequence[Buffer]) -> list[Buffer]:
    """A field of protobuf's wire type 2: tag, length, content."""
    return [_varint(number << 3 | 2) + _varint(total_bytes(content)), *content]


def _varint(value: int) -> bytes:
    """Encode an unsigned integer: seven bits per byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
