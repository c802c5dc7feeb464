from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import check_size, encode_probabilities
from semseg.errors import TooLargeError
from semseg.types import Float32


@pytest.fixture(scope="module")
def record_class() -> Any:
    """The published schema of `aialgs.data.Record`, the fields used here, in a pool of its own.

    The SageMaker SDK registers the same names in the default pool, which refuses to hold them twice.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")

    def tensor(name: str, kind: Any) -> None:
        message = file.message_type.add(name=name)
        for number, (key, key_type) in enumerate(
            [("values", kind), ("keys", field.TYPE_UINT64), ("shape", field.TYPE_UINT64)], 1
        ):
            added = message.field.add(name=key, number=number, label=field.LABEL_REPEATED, type=key_type)
            added.options.packed = True

    tensor("Float32Tensor", field.TYPE_FLOAT)
    tensor("Int32Tensor", field.TYPE_INT32)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, kind in [("float32_tensor", 2, "Float32Tensor"), ("int32_tensor", 7, "Int32Tensor")]:
        value.field.add(
            name=name,
            number=number,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_MESSAGE,
            type_name=f".aialgs.data.{kind}",
            oneof_index=0,
        )
    record = file.message_type.add(name="Record")
    entry = record.nested_type.add(name="FeaturesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=".aialgs.data.Value",
    )
    record.field.add(
        name="features",
        number=1,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".aialgs.data.Record.FeaturesEntry",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))


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


@pytest.mark.req("R52", "R53")
def test_the_notebook_of_aws_reads_the_record(record_class: Any, tmp_path: Path) -> None:
    runtime = pytest.importorskip("semseg.engines.gluon.runtime")
    probabilities = softmax(4, 6, 5)
    file = tmp_path / "results.rec"
    file.write_bytes(b"".join(encode_probabilities(probabilities)))

    reader = runtime.load().recordio.MXRecordIO(str(file), "r")
    record = record_class()
    record.ParseFromString(reader.read())
    reader.close()

    values = list(record.features["target"].float32_tensor.values)
    shape = list(record.features["shape"].int32_tensor.values)
    assert shape == [1, 4, 6, 5]
    np.testing.assert_array_equal(np.reshape(np.array(values), shape)[0], probabilities)


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
    check_size(254, 720, 720)
    with pytest.raises(TooLargeError) as caught:
        check_size(254, 730, 730)
    assert "730 x 730" in caught.value.message
    assert "image/png" in caught.value.hint
    with pytest.raises(TooLargeError):
        encode_probabilities(np.broadcast_to(np.float32(0), (254, 730, 730)))
