from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.codecs.npy import decode_npy, encode_npy
from semseg.codecs.recordio import total_bytes
from semseg.errors import FormatError


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("size", [(3, 5, 7), (2, 1, 1), (254, 3, 200), (6, 11)])
def test_numpy_loads_the_same_array(size: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).uniform(0, 200, size).astype(dtype)
    data = b"".join(encode_npy(array))
    for loaded in (np.load(io.BytesIO(data), allow_pickle=False), decode_npy(data)):
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)


def test_an_array_in_another_order_keeps_its_indices() -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.load(io.BytesIO(b"".join(encode_npy(array))), allow_pickle=False), array)


def test_the_values_are_not_copied() -> None:
    array = np.ones((21, 200, 200), np.float32)
    tracemalloc.start()
    parts = encode_npy(array)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total_bytes(parts) > array.nbytes
    assert peak < 100_000


def saved(array: NDArray[Any], **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .npy file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a .npy file"),
        (saved(np.ones((2, 3), np.uint8))[:-1], "5 bytes of values, but the shape"),
        (saved(np.ones((2, 3), np.uint8)) + b"1", "7 bytes of values, but the shape"),
        (saved(np.ones((2, 3), np.float64)), "not a .npy file"),
        (saved(np.ones((2, 3), ">f4")), "not a .npy file"),
        (saved(np.ones((2, 3), np.float32).T.copy("F")), "not a .npy file"),
        (saved(np.array([object()]), allow_pickle=True), "not a .npy file"),
        (saved(np.ones(3, np.uint8)).replace(b"(3,)", b"(-3)"), "not a .npy file"),
        (saved(np.ones(3, np.uint8)).replace(b"(3,),", b"(-3,)"), "not a .npy file"),
        (saved(np.ones(3, np.uint8))[:30], "not a .npy file"),
        (b"\x93NUMPY\x01\0\xff\xff" + b"(" * 65535, "not a .npy file"),
        (saved(np.ones(3, np.uint8)).replace(b"(3,)", b"(" + b"9" * 4 + b")"), "not a .npy file|but the shape"),
        (saved(np.ones(3, np.uint8)).replace(b"    \n", b"   \n"), "not a .npy file"),
    ],
)
def test_another_or_a_damaged_file_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        decode_npy(data)


def test_the_decoded_values_are_not_copied() -> None:
    data = b"".join(encode_npy(np.ones((21, 200, 200), np.float32)))
    tracemalloc.start()
    decoded = decode_npy(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoded.shape == (21, 200, 200)
    assert peak < 200_000
