"""Checks a model.onnx or model_int8.onnx before anything else reads it, without the onnx library.

The file is a protobuf message, `ModelProto` of onnx.proto (ONNX 1.23, IR version 10). At every depth it may only have
the fields listed here. A file that passes

- claims to belong to these parameters: its metadata has the SHA-256 of their file;
- is self-contained: tensors hold their own values, and none refers to another file (`data_location`, `external_data`);
- does not nest: it has no graphs within graphs, as in branches and loops, no functions and no sparse tensors, and
  attributes of nodes are numbers and strings, not tensors, graphs or types;
- has only operators of ONNX's own domain, at most MAX_BYTES bytes and at most 100,000 fields.

This does not prove that this project made the file: anyone who can write it can copy the digest beside other weights,
just as anyone who provides the model directory decides what is predicted. Operators, shapes and values are not checked:
an engine may refuse the graph, and it may need more memory and time than there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from semseg.errors import ArtifactError, FormatError
from semseg.files import map_file, naming_file

DIGEST = "params_sha256"
"""The key of the metadata whose value is the SHA-256 of the parameter file."""

MAX_BYTES = 1 << 30
"""Limit for a file: the largest of the six networks has 280 MB."""

_MAX_FIELDS = 100_000
"""Limit for all messages together: the largest of the six networks has 10,402 fields, in int8."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_KNOWN = {
    "model": {1: "ir_version", 2: "producer_name", 3: "producer_version", 7: "graph", 8: "opset", 14: "metadata"},
    "opset": {1: "domain", 2: "version"},
    "metadata": {1: "key", 2: "value"},
    "graph": {1: "node", 2: "name", 5: "tensor", 11: "port", 12: "port"},
    "node": {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute"},
    "attribute": {1: "name", 2: "f", 3: "i", 4: "s", 7: "floats", 8: "ints", 9: "strings", 20: "kind"},
    "tensor": {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"},
    "port": {1: "name", 2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {1: "elem_type", 2: "shape"},
    "shape": {1: "dim"},
    "dim": {1: "dim_value", 2: "dim_param"},
}
"""The fields of each message by number; a field with the name of a message is such a message. No message recurs."""

Value = int | memoryview


def verify(path: Path, digest: str) -> dict[str, str]:
    """Check a file as described above and return its metadata.

    digest: the SHA-256 of its parameters, in hexadecimal digits. The file is mapped, and its weights are skipped.
    Raises ArtifactError, naming the file and the fault.
    """
    with naming_file(path, ArtifactError, "Make it again with `semseg export` or `semseg quantize`."):
        file = map_file(path)
        if not 0 < len(file) <= MAX_BYTES:
            raise FormatError(f"has {len(file):,} bytes, not 1 to {MAX_BYTES:,}")
        metadata = _metadata(file)
        found = metadata.get(DIGEST)
        if found != digest:
            raise FormatError(
                "was made from other parameters" if found else "does not say from which parameters it was made"
            )
    return metadata


def _metadata(file: memoryview) -> dict[str, str]:
    """The metadata of a file, all fields of which are checked."""
    metadata: dict[str, str] = {}
    reader = _Reader()
    for field, value in reader.fields(file, "model"):
        if field == "metadata":
            entry = {part: _text(text) for part, text in reader.fields(_message(value), "metadata")}
            metadata[entry.get("key", "")] = entry.get("value", "")
        elif field in _KNOWN:
            reader.check(_message(value), field)
    return metadata


class _Reader:
    """Splits messages into fields, at most _MAX_FIELDS in all."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def check(self, message: memoryview, kind: str) -> None:
        """Check each field of a message and of the messages within it. Raises FormatError for an unknown field."""
        for field, value in self.fields(message, kind):
            if field in _KNOWN:
                self.check(_message(value), field)

    def fields(self, message: memoryview, kind: str) -> Iterator[tuple[str, Value]]:
        """The name and value of each field: a number, or a view of bytes in the file."""
        offset = 0
        while offset < len(message):
            self._left -= 1
            if self._left < 0:
                raise FormatError(f"has more than {_MAX_FIELDS:,} fields")
            tag, offset = _varint(message, offset)
            number, wire_type = tag >> 3, tag & 7
            name = _KNOWN[kind].get(number)
            if name is None:
                raise FormatError(f"has the {kind} field {number}, which no network here needs")
            value, offset = _value(message, offset, wire_type)
            yield name, value


def _value(message: memoryview, offset: int, wire_type: int) -> tuple[Value, int]:
    if wire_type == _VARINT:
        return _varint(message, offset)
    if wire_type == _BYTES:
        size, offset = _varint(message, offset)
    else:
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(wire_type, len(message) + 1)
    if size > len(message) - offset:
        raise FormatError("is truncated or not an ONNX file")
    return message[offset : offset + size], offset + size


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(message[offset : offset + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, offset + shift + 1
    raise FormatError("is truncated or not an ONNX file")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise FormatError("is not an ONNX file")
    return value


def _text(value: Value) -> str:
    return bytes(_message(value)[:1000]).decode("utf-8", "backslashreplace")
