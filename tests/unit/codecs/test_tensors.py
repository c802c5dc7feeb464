from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import check_size, encode_classes, encode_probabilities
from semseg.errors import TooLargeError
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
