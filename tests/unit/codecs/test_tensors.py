from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet_records import as_mxnet_writes

from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import check_size, decode_tensors, encode_classes, encode_probabilities
from semseg.errors import DataError, FormatError, TooLargeError
from semseg.types import Float32


def softmax(classes: int, height: int, width: int) -> Float32:
    scores = np.exp(np.random.default_rng(0).normal(size=(classes, height, width)).astype(np.float32))
    return np.asarray(scores / scores.sum(axis=0), dtype=np.float32)


@pytest.mark.req("R10", "R52", "R53")
@pytest.mark.parametrize("size", [(2, 1, 1), (3, 5, 7), (21, 130, 129), (254, 3, 200)])
def test_the_bytes_are_those_of_google_protobuf(record_class: Any, size: tuple[int, int, int]) -> None:
    probabilities = softmax(*size)
    record = record_class()
    record.features["target"].float32_tensor.values.extend(probabilities.ravel())
    record.features["shape"].int32_tensor.values.extend([1, *size])
    payload = record.SerializeToString(deterministic=True)

    framed = b"".join(encode_probabilities(probabilities))

    assert framed[:8] == struct.pack("<II", 0xCED7230A, len(payload))
    assert framed[8 : 8 + len(payload)] == payload
    assert framed[8 + len(payload) :] == bytes(-len(payload) % 4)


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize(("classes", "height", "width"), [(2, 1, 1), (128, 9, 40), (254, 61, 83), (254, 1100, 1000)])
def test_the_bytes_of_classes_are_those_of_google_protobuf(
    record_class: Any, classes: int, height: int, width: int, sure: bool
) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, classes, (height, width), np.uint8)
    confidence = rng.random((height, width), np.float32)
    record = record_class()
    record.features["target"].int32_tensor.values.extend(labels.ravel().tolist())
    record.features["shape"].int32_tensor.values.extend([1, height, width])
    if sure:
        record.features["confidence"].float32_tensor.values.extend(confidence.ravel())

    framed = b"".join(encode_classes(labels, confidence if sure else None))

    length = int.from_bytes(framed[4:8], "little")
    assert framed[8 : 8 + length] == record.SerializeToString(deterministic=True)
    assert framed[8 + length :] == bytes(-length % 4)


def test_classes_of_one_byte_are_not_copied() -> None:
    labels = np.full((1000, 1000), 127, np.uint8)
    tracemalloc.start()
    encode_classes(labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_an_array_in_another_order_is_written_in_the_order_of_its_indices() -> None:
    probabilities = softmax(3, 4, 5)
    transposed = np.asfortranarray(probabilities)
    assert b"".join(encode_probabilities(transposed)) == b"".join(encode_probabilities(probabilities))


def test_the_values_are_not_copied() -> None:
    probabilities = softmax(21, 200, 200)
    tracemalloc.start()
    parts = encode_probabilities(probabilities)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total_bytes(parts) > probabilities.nbytes
    assert peak < 100_000


def test_what_does_not_fit_one_record_is_an_error_with_the_ways_out() -> None:
    check_size(4 * 254 * 720 * 720)
    with pytest.raises(TooLargeError) as caught:
        check_size(4 * 254 * 730 * 730)
    assert f"{4 * 254 * 730 * 730:,}" in caught.value.message
    assert "image/png" in caught.value.hint
    with pytest.raises(TooLargeError):
        encode_probabilities(np.broadcast_to(np.float32(0), (254, 730, 730)))


def notebook_decodes(record_class: Any, data: bytes) -> Any:
    """What AWS's notebook makes of a response: it reads one record of the file, then these lines."""
    record = record_class()
    record.ParseFromString(data[8 : 8 + int.from_bytes(data[4:8], "little")])
    values = list(record.features["target"].float32_tensor.values)
    shape = list(record.features["shape"].int32_tensor.values)
    return np.squeeze(np.reshape(np.array(values), np.squeeze(shape)), axis=0)


@pytest.mark.parametrize("size", [(2, 1, 1), (3, 5, 7), (21, 30, 29), (254, 3, 20)])
def test_probabilities_are_read_as_in_aws_s_notebook(record_class: Any, size: tuple[int, int, int]) -> None:
    probabilities = softmax(*size)
    data = b"".join(encode_probabilities(probabilities))
    read = decode_tensors(data)
    assert set(read) == {"target"}
    assert read["target"].dtype == np.float32
    np.testing.assert_array_equal(read["target"], probabilities)
    np.testing.assert_array_equal(notebook_decodes(record_class, data), read["target"])


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize(("classes", "height", "width"), [(2, 1, 1), (128, 9, 40), (254, 61, 83)])
def test_class_ids_and_their_confidence_are_read(classes: int, height: int, width: int, sure: bool) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, classes, (height, width), np.uint8)
    confidence = rng.random((height, width), np.float32)
    read = decode_tensors(b"".join(encode_classes(labels, confidence if sure else None)))
    np.testing.assert_array_equal(read.pop("target"), labels)
    assert set(read) == ({"confidence"} if sure else set())
    for values in read.values():
        np.testing.assert_array_equal(values, confidence)


def framed(payload: bytes) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


def field(number: int, *content: bytes) -> bytes:
    joined = b"".join(content)
    return bytes([number << 3 | 2, len(joined)]) + joined


def feature(key: str, kind: int, *values: bytes) -> bytes:
    return field(1, field(1, key.encode()), field(2, field(kind, *values)))


SHAPE = feature("shape", 7, field(1, b"\1\2\1\1"))
PACKED = feature("target", 2, field(1, struct.pack("<ff", 0.25, 0.75)))
UNPACKED = feature("target", 2, b"\x0d" + struct.pack("<f", 0.25), field(1, struct.pack("<f", 0.75)))


@pytest.mark.parametrize(
    "payload",
    [
        SHAPE + PACKED,
        PACKED + SHAPE,
        SHAPE + UNPACKED,
        feature("shape", 7, b"\x08\1\x08\2", field(1, b"\1"), b"\x08\x81\0") + PACKED,
        feature("target", 7, field(1, b"\5")) + SHAPE + PACKED,
        field(3, b"uid") + SHAPE + b"\x79" + bytes(8) + PACKED + b"\x7d" + bytes(4) + b"\x78\x96\1",
        SHAPE + PACKED + feature("bytes", 9, b"anything") + field(2, b"a label") + field(1, field(1, b"empty")),
        SHAPE + feature("target", 2, field(1, struct.pack("<ff", 0.25, 0.75)), field(3, b"\5\6")),
        field(3, b"123\x0a\x23\xd7\xce") + SHAPE + field(3, b"\x0a\x23\xd7\xce" * 3) + PACKED,
    ],
    ids=["sorted", "not", "unpacked", "unpacked shape", "twice", "unknown", "others", "own shape", "with the magic"],
)
def test_other_ways_to_write_a_record_are_read(record_class: Any, payload: bytes) -> None:
    record = record_class()
    record.ParseFromString(payload)
    assert list(record.features["target"].float32_tensor.values) == [0.25, 0.75]
    for data in (framed(payload), as_mxnet_writes(payload)):
        assert decode_tensors(data)["target"].tolist() == [[[0.25]], [[0.75]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (framed(SHAPE + PACKED) * 2, "more than one RecordIO record"),
        (framed(PACKED), "no feature 'shape'"),
        (framed(feature("shape", 7, field(1, b"\1\3\1\1")) + PACKED), "2 values of 'target', but the shape"),
        (framed(feature("shape", 7, field(1, b"\2\1\1\1")) + PACKED), "2 values of 'target', but the shape"),
        (framed(feature("shape", 7) + PACKED), "no feature 'shape' of one to eight"),
        (framed(feature("shape", 7, field(1, b"\1" * 7 + b"\2" * 9)) + PACKED), "no feature 'shape' of one to eight"),
        (framed(feature("shape", 7, field(1, b"\xff" * 9 + b"\1")) + PACKED), "a negative or very large integer"),
        (framed(feature("shape", 7, field(1, b"\x81")) + PACKED), "cut short within an integer"),
        (framed(feature("shape", 7, b"\x0d" + bytes(4)) + PACKED), "no integers"),
        (framed(SHAPE + feature("target", 2, field(1, bytes(7)))), "no 32-bit floats"),
        (framed(SHAPE + feature("target", 2, b"\x08\1")), "no 32-bit floats"),
        (framed(SHAPE + PACKED[:-1]), "cut short: its field 1 needs 1 more bytes"),
        (framed(SHAPE + b"\x0b\x0c"), "wire type 3"),
        (framed(b"\xff" * 12), "an integer of more than ten bytes"),
        (framed(b"\x0a"), "cut short"),
        (framed(b"\x18\1" * 10_001), "more than 10,000 fields"),
    ],
)
def test_a_damaged_record_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        decode_tensors(data)


@given(st.data())
def test_any_damage_gives_arrays_or_an_error(data: st.DataObject) -> None:
    damaged = bytearray(framed(SHAPE + PACKED))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(FormatError, DataError):
        assert all(values.size <= cut for values in decode_tensors(bytes(damaged[:cut])).values())


def test_large_arrays_are_read_without_a_copy() -> None:
    data = b"".join(encode_probabilities(softmax(21, 200, 200)))
    tracemalloc.start()
    decode_tensors(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
