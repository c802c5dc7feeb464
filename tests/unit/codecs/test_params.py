from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semseg.codecs.params import read_params, write_params
from semseg.errors import ArtifactError

Encode = Callable[[dict[str, NDArray[Any]]], bytes]

ARRAYS: dict[str, NDArray[Any]] = {
    "conv1.0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn1.gamma": np.arange(3, dtype=np.float16),
    "bn1.beta": np.arange(3, dtype=np.float64),
    "counts": np.arange(6, dtype=np.int64).reshape(3, 2),
    "labels": np.arange(5, dtype=np.uint8),
}


def test_arrays_come_back_by_name_as_read_only_views(tmp_path: Path, encode: Encode) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(encode(ARRAYS))
    found = read_params(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable
        assert not found[name].flags.owndata


def test_arrays_are_written_as_mxnet_does(tmp_path: Path, encode: Encode) -> None:
    write_params(tmp_path / "a.params", ARRAYS | {"turned": ARRAYS["counts"].T})
    assert (tmp_path / "a.params").read_bytes() == encode(ARRAYS | {"turned": ARRAYS["counts"].T})


def test_a_full_disk_is_an_error_of_the_operating_system() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_params(Path("/dev/full"), ARRAYS)


def test_prefixes_of_symbolic_files_are_dropped(tmp_path: Path, encode: Encode) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(encode({"arg:w": ARRAYS["labels"], "aux:m": ARRAYS["labels"]}))
    assert list(read_params(path)) == ["w", "m"]


def test_a_mapped_file_is_not_read_into_memory(tmp_path: Path, encode: Encode) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(encode({"w": np.zeros(4_000_000, np.float32)}))
    tracemalloc.start()
    try:
        read_params(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def _head(count: int = 1) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, count)


def _dense(*shape: int, magic: int = 0xF993FAC9, storage: int = 0, dtype: int = 0) -> bytes:
    dimensions = struct.pack(f"<i{len(shape)}q", len(shape), *shape)
    return struct.pack("<Ii", magic, storage) + dimensions + struct.pack("<iii", 1, 0, dtype)


ONE = _head() + _dense(1) + bytes(4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an MXNet parameter file"),
        (b"PK\x03\x04" + bytes(60), "not an MXNet parameter file"),
        (_head(count=2**60) + _dense(1) + bytes(4), "1152921504606846976 items"),
        (_head() + _dense(2**40, 2**40) + bytes(64), "truncated: at byte"),
        (_head() + _dense(4, storage=1) + bytes(64), "sparse"),
        (_head() + _dense(4, dtype=12) + bytes(64), "unknown dtype 12"),
        (_head() + _dense(-1) + bytes(64), "shape (-1,)"),
        (_head() + _dense() + bytes(64), "0 dimensions"),
        (_head() + _dense(*[1] * 33) + bytes(64), "33 dimensions"),
        (ONE + struct.pack("<Q", 0), "1 arrays, but 0 names"),
        (ONE + struct.pack("<QQ", 1, 2000) + bytes(2000), "a name of 2000 bytes"),
        (ONE + struct.pack("<QQ", 1, 2) + b"\xff\xff", "not UTF-8"),
        (ONE + struct.pack("<QQ", 1, 1) + b"w" + b"more", "4 bytes too many"),
        (_head(2) + 2 * (_dense(1) + bytes(4)) + struct.pack("<Q", 2) + 2 * (struct.pack("<Q", 1) + b"w"), "same name"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.params"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_params(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "copied whole" in caught.value.hint


def test_only_the_numpy_layout_has_scalars(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(_head() + _dense(magic=0xF993FACA) + np.float32(3).tobytes() + struct.pack("<QQ", 1, 1) + b"w")
    assert read_params(path)["w"].item() == 3


def test_a_path_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("absent", "is not there"), ("pipe", "is not a file"), ("", "is not a file")):
        with pytest.raises(ArtifactError, match=says):
            read_params(tmp_path / name)


def test_an_array_of_two_names_after_stripping_is_an_error(tmp_path: Path, encode: Encode) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(encode({"w": ARRAYS["labels"], "arg:w": ARRAYS["labels"]}))
    with pytest.raises(ArtifactError, match="two arrays with the same name"):
        read_params(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_worse_than_an_artifact_error(tmp_path: Path, encode: Encode, data: st.DataObject) -> None:
    content = bytearray(encode(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)), "at")
        patch = data.draw(
            st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x7f", b"\x80", b"\x01"]) | st.binary(max_size=9), "patch"
        )
        kind = data.draw(st.sampled_from(["overwrite", "insert", "truncate"]), "kind")
        content[at : len(content) if kind == "truncate" else at + len(patch) * (kind == "overwrite")] = patch
    path = tmp_path / "damaged.params"
    path.write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(ArtifactError):
        assert sum(array.nbytes for array in read_params(path).values()) < len(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
