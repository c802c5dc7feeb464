from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Write = Callable[[Path, dict[str, NDArray[Any]]], Path]


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
