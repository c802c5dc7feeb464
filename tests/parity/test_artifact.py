from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.codecs.params import read_params, write_params
from semseg.engines.gluon import runtime


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64"])
def test_arrays_are_those_mxnet_saved(mx: Any, tmp_path: Path, dtype: str) -> None:
    expected = np.arange(-6, 18).astype(dtype).reshape(2, 3, 4)
    path = tmp_path / "a.params"
    mx.nd.save(str(path), {"arg:w": runtime.to_device(expected, mx.cpu()), "aux:mean": mx.nd.ones((3,))})
    found = read_params(path)
    assert found["w"].dtype == dtype
    np.testing.assert_array_equal(found["w"], expected)
    np.testing.assert_array_equal(found["mean"], np.ones(3))


@pytest.mark.parametrize("oldest", [False, True])
def test_the_layouts_before_2018_are_read_as_mxnet_reads_them(mx: Any, tmp_path: Path, oldest: bool) -> None:
    shape = struct.pack("<III", 2, 2, 3) if oldest else struct.pack("<Iiqq", 0xF993FAC8, 2, 2, 3)
    array = shape + struct.pack("<iii", 1, 0, 0) + np.arange(6, dtype=np.float32).tobytes()
    path = tmp_path / "old.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"w")
    np.testing.assert_array_equal(read_params(path)["w"], mx.nd.load(str(path))["w"].asnumpy())


def test_what_is_written_is_what_mxnet_writes_byte_by_byte(mx: Any, tmp_path: Path) -> None:
    arrays = {dtype: np.arange(-6, 18).astype(dtype).reshape(2, 3, 4) for dtype in ("float16", "float32", "uint8")}
    write_params(tmp_path / "found", arrays)
    mx.nd.save(str(tmp_path / "expected"), {name: runtime.to_device(array, mx.cpu()) for name, array in arrays.items()})
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()
