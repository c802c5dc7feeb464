from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Write = Callable[[Path, dict[str, NDArray[Any]]], Path]

_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def _array(array: NDArray[Any]) -> bytes:
    header = struct.pack("<Iii", 0xF993FAC9, 0, array.ndim) + struct.pack(f"<{array.ndim}q", *array.shape)
    return header + struct.pack("<iii", 1, 0, _TYPES[array.dtype.name]) + array.tobytes()


@pytest.fixture(scope="session")
def encode() -> Callable[[dict[str, NDArray[Any]]], bytes]:
    """MXNet's file of some arrays, as mxnet 1.9.1 writes it (tests/parity shows that)."""

    def encode(arrays: dict[str, NDArray[Any]]) -> bytes:
        names = [name.encode() for name in arrays]
        return b"".join(
            [
                struct.pack("<QQQ", 0x112, 0, len(arrays)),
                *map(_array, arrays.values()),
                struct.pack("<Q", len(names)),
                *(struct.pack("<Q", len(name)) + name for name in names),
            ]
        )

    return encode


@pytest.fixture
def write(encode: Callable[[dict[str, NDArray[Any]]], bytes]) -> Write:
    def write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
        path.write_bytes(encode(arrays))
        return path

    return write


@pytest.fixture
def network() -> Callable[..., dict[str, NDArray[Any]]]:
    """The parameters by which a network is known, the others left out."""

    def network(head: str = "", blocks: int = 6, classes: int = 5, aux: bool = True) -> dict[str, NDArray[Any]]:
        names = [f"layer3.{i}.conv1.weight" for i in range(blocks)]
        names += [f"head.{head}conv1.0.weight"] if head else []
        names += ["auxlayer.block.0.weight"] if aux else []
        arrays: dict[str, NDArray[Any]] = {name: np.ones((2, 1, 1, 1), np.float32) for name in names}
        return arrays | {"head.block.4.weight": np.ones((classes, 4, 1, 1), np.float32)}

    return network
