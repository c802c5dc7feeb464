"""Class probabilities as recordio-protobuf, the built-in algorithm's response, or class ids in a smaller form.

One RecordIO record holds one `aialgs.data.Record` with two features: "target", the probabilities, and "shape", the four
sizes [1, C, H, W]. The smaller form, this project's own, has the class ids, int32, as "target", optionally the
probability of each as "confidence", and the "shape" [1, H, W]. The message is written around the array's own memory:
the same bytes as google.protobuf's deterministic serialisation, without its copies.
Reading accepts all that protobuf allows; the tensors' own field `shape`, which no client uses, is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.protobuf import Field, fields, floats, integers
from semseg.codecs.recordio import MAX_PAYLOAD, Buffer, frame, only_record, total_bytes
from semseg.errors import FormatError, TooLargeError
from semseg.types import Float32, UInt8

# Field numbers of record.proto.
_RECORD_FEATURES = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_FLOAT32_TENSOR, _VALUE_INT32_TENSOR = 2, 7
_TENSOR_VALUES = 1

_TWO_BYTES = 128
"""The smallest number whose varint has two bytes: for 128 to 255 these are the number itself and 1."""

_CHUNK = 1 << 16

_READERS: dict[int, Callable[[list[Field]], NDArray[Any]]] = {
    _VALUE_FLOAT32_TENSOR: floats,
    _VALUE_INT32_TENSOR: integers,
}
_MOST_SIZES = 8

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


def decode_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the features of the only record in `data` by name, in the sizes of its "shape" without the batch's 1.

    float32 or int64; of a response "target" (C, H, W), or (H, W) if it is class ids, with "confidence" (H, W) if that
    was asked for. Large arrays are read-only views of `data` where possible; features of other types are left out.
    Raises FormatError, and DataError for a damaged frame.
    """
    features: dict[str, NDArray[Any]] = {}
    for entry in fields(only_record(data)):
        if entry.number == _RECORD_FEATURES:
            parts = {field.number: field for field in fields(entry.content)}
            tensor = _tensor(parts[_ENTRY_VALUE]) if _ENTRY_VALUE in parts else None
            if tensor is not None and _ENTRY_KEY in parts:
                features[bytes(parts[_ENTRY_KEY].content).decode("utf-8", "replace")] = tensor
    if not 1 <= features.get("shape", np.empty(0)).size <= _MOST_SIZES:
        raise FormatError("has no feature 'shape' of one to eight sizes")
    batch, *sizes = features.pop("shape").tolist()
    for name, values in features.items():
        if batch != 1 or prod(sizes) != values.size:
            raise FormatError(f"has {values.size:,} values of {name!r}, but the shape {[batch, *sizes]}")
    return {name: values.reshape(sizes) for name, values in features.items()}


def _tensor(value: Field) -> NDArray[Any] | None:
    """The values of a Value's tensor, None if it is neither of float32 nor of int32."""
    tensors = [field for field in fields(value.content) if field.number in _READERS]
    if not tensors:
        return None
    chunks = [field for field in fields(tensors[-1].content) if field.number == _TENSOR_VALUES]
    return _READERS[tensors[-1].number](chunks)


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
