from __future__ import annotations

import numpy as np
import pytest
from thread_group import as_ranks

from semseg.engines.group import ALONE, shared_arrays, shared_by


def test_alone_every_answer_is_ones_own() -> None:
    array = np.array([1.5, -2.0])
    assert (ALONE.rank, ALONE.size) == (0, 1)
    assert ALONE.sum(array) is array
    assert (ALONE.any(True), ALONE.any(False)) == (True, False)
    ALONE.barrier()
    ALONE.leave()


@pytest.mark.parametrize("data", [b"", b"a", b"12345678", bytes(range(256)) * 5 + b"x"])
def test_bytes_of_any_length_are_shared_by_all_ranks(data: bytes) -> None:
    found = as_ranks(3, lambda group: shared_by(group, data if group.rank == 0 else b"ignored"))
    assert found == [data] * 3
    assert shared_by(ALONE, data) == data


def test_arrays_of_any_kind_are_shared_by_all_ranks() -> None:
    arrays = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "steps": np.array(7),
        "none": np.zeros((0, 3), np.float16),
        "mask": np.array([True, False]),
    }
    for found in as_ranks(2, lambda group: shared_arrays(group, arrays if group.rank == 0 else {})):
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
