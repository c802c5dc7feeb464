"""Looks through a model.onnx or model_int8.onnx before anything else reads it, without ONNX and without trusting it.

The file is a protobuf message, `ModelProto` of onnx.proto (ONNX 1.23, IR version 10). Known are the fields, operators
and kinds of attributes that the files written here have; whatever else there is, is refused: data in other files,
graphs within graphs, functions, operators of other domains, loops.

What passes has our form, and says that it was made from these parameters. That shows that the two belong together, not
who made them: whoever can write the file can write that too, and weights of his own. He who gives the model directory
decides what is predicted, by either file. A graph of these operators can also ask for more memory than there is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from semseg.errors import ArtifactError, FormatError, one_line

DIGEST = "params_sha256"
"""The key of the metadata whose value is the SHA-256 of the parameter file."""

_COMPUTING = {"Conv", "Relu", "Add", "MaxPool", "GlobalAveragePool", "MatMul", "Concat", "Expand", "Resize"}
_OF_SIZES = {"Shape", "Squeeze", "Range", "Mul", "Div", "Sub", "GreaterOrEqual", "Less", "And", "Cast", "Transpose"}
_OF_INT8 = {"QuantizeLinear", "DequantizeLinear"}
OPERATORS = _COMPUTING | _OF_SIZES | _OF_INT8
"""What onnx_layers and onnx_int8 make use of."""

MAX_BYTES = 1 << 30
"""The largest of the six networks takes 280 MB."""

_MAX_FIELDS = 100_000
"""The largest network has 5,000."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MODEL = {1: "ir_version", 2: "producer_name", 3: "producer_version", 7: "graph", 8: "opset_import", 14: "metadata"}
_GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
_NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute"}
_ATTRIBUTE = {1: "name", 3: "i", 4: "s", 8: "ints", 20: "type"}
_TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}
_ENTRY = {1: "key", 2: "value"}

Value = int | memoryview


def verify(path: Path, digest: str) -> dict[str, str]:
    """Make sure that a file has the form of ours and was made from the parameters with this SHA-256 (hexadecimal).

    It is mapped, its weights are stepped over. Returns the metadata. Raises ArtifactError naming file and fault.
    """
    try:
        metadata = _metadata(_map(path))
        found = metadata.get(DIGEST)
        if found != digest:
            raise FormatError(
                "was made from other parameters" if found else "does not tell from which parameters it is"
            )
    except FormatError as fault:
        raise ArtifactError(
            f"{one_line(str(path))} {fault}.", "`semseg export` or `semseg quantize` makes it anew."
        ) from None
    except OSError as error:
        raise ArtifactError(f"{one_line(str(path))} cannot be read: {error.strerror}.") from error
    return metadata


def _map(path: Path) -> memoryview:
    if not path.is_file():
        raise FormatError("is not a file")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise FormatError(f"has {size:,} bytes, not 1 to {MAX_BYTES:,}")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _metadata(file: memoryview) -> dict[str, str]:
    """The metadata of a file of which everything was looked at."""
    metadata: dict[str, str] = {}
    reader = _Reader()
    for field, value in reader.fields(file, _MODEL, "model"):
        if field == "graph":
            _check_graph(reader, _message(value))
        elif field == "metadata":
            entry = {part: _text(text) for part, text in reader.fields(_message(value), _ENTRY, "metadata")}
            metadata[entry.get("key", "")] = entry.get("value", "")
    return metadata


def _check_graph(reader: _Reader, graph: memoryview) -> None:
    for field, value in reader.fields(graph, _GRAPH, "graph"):
        if field == "node":
            _check_node(reader, _message(value))
        elif field == "initializer":
            for _ in reader.fields(_message(value), _TENSOR, "tensor"):
                pass


def _check_node(reader: _Reader, node: memoryview) -> None:
    for field, value in reader.fields(node, _NODE, "node"):
        if field == "op_type" and _text(value) not in OPERATORS:
            raise FormatError(f"has the operator {_text(value)!r:.100}, which no network here needs")
        if field == "attribute":
            for _ in reader.fields(_message(value), _ATTRIBUTE, "attribute"):
                pass


class _Reader:
    """Splits messages into fields, not more of them in all than a network needs."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def fields(self, message: memoryview, known: dict[int, str], kind: str) -> Iterator[tuple[str, Value]]:
        """The name and value of each field: a number, or bytes that are still in the file."""
        offset = 0
        while offset < len(message):
            self._left -= 1
            if self._left < 0:
                raise FormatError(f"has more than {_MAX_FIELDS:,} fields")
            tag, offset = _varint(message, offset)
            number, wire_type = tag >> 3, tag & 7
            if number not in known:
                raise FormatError(f"has the {kind} field {number}, which no network here needs")
            value, offset = _value(message, offset, wire_type)
            yield known[number], value


def _value(message: memoryview, offset: int, wire_type: int) -> tuple[Value, int]:
    if wire_type == _VARINT:
        return _varint(message, offset)
    if wire_type == _BYTES:
        size, offset = _varint(message, offset)
    else:
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(wire_type, len(message) + 1)
    if size > len(message) - offset:
        raise FormatError("is truncated or no ONNX file")
    return message[offset : offset + size], offset + size


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(message[offset : offset + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, offset + shift + 1
    raise FormatError("is truncated or no ONNX file")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise FormatError("is no ONNX file")
    return value


def _text(value: Value) -> str:
    return bytes(_message(value)[:1000]).decode("utf-8", "backslashreplace")
