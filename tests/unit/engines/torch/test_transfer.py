from __future__ import annotations

import numpy as np
import pytest
import torch

from semseg.engines.torch.transfer import to_device
from semseg.types import UInt8

CPU = torch.device("cpu")


def flipped(array: UInt8) -> UInt8:
    return array[:, ::-1]


def read_only(array: UInt8) -> UInt8:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("form", [flipped, read_only, np.asfortranarray])
def test_arrays_of_any_layout_are_taken_with_their_dtype(form: object) -> None:
    assert callable(form)
    array = form(np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = to_device(array, CPU)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), array)


def test_a_batch_is_not_copied_for_a_cpu() -> None:
    array = np.arange(12, dtype=np.uint8)
    to_device(array, CPU)[0] = 9
    assert array[0] == 9
