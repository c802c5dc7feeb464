from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import parameter_table
from semseg.types import Arrays

Write = Callable[[Path, dict[str, NDArray[Any]]], Path]


@pytest.fixture
def write(encode: Callable[[dict[str, NDArray[Any]]], bytes]) -> Write:
    def write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
        path.write_bytes(encode(arrays))
        return path

    return write


@pytest.fixture
def network() -> Callable[..., Arrays]:
    """The parameters of a network by name; only the classifier's has the right shape."""

    def network(algorithm: str = "fcn", backbone: str = "resnet-50", classes: int = 5, aux: bool = True) -> Arrays:
        found = by_name(algorithm, NETWORKS)
        table = parameter_table(found, by_name(backbone, BACKBONES), classes, aux)
        arrays: Arrays = {name: np.ones((1, 1, 1, 1), np.float32) for name in table}
        return arrays | {f"{found.classifier}.weight": np.ones((classes, 4, 1, 1), np.float32)}

    return network
