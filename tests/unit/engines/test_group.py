from __future__ import annotations

import numpy as np
import pytest
from thread_group import as_ranks

from semseg.engines.group import ALONE, shared_by


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
