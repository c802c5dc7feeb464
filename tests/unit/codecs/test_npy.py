from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest

from semseg.codecs.npy import encode_npy
from semseg.codecs.recordio import total_bytes


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("size", [(3, 5, 7), (2, 1, 1), (254, 3, 200), (6, 11)])
def test_numpy_loads_the_same_array(size: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).uniform(0, 200, size).astype(dtype)
    loaded = np.load(io.BytesIO(b"".join(encode_npy(array))), allow_pickle=False)
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
