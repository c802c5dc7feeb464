from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gluon_models import tiny_model

from semseg.engines.gluon import runtime
from semseg.types import Batch


@pytest.fixture(scope="session")
def mx() -> Any:
    return runtime.load()


@pytest.fixture
def model(mx: Any) -> Any:
    mx.random.seed(1)
    return tiny_model(3)


@pytest.fixture
def batch() -> Batch:
    """Two images whose upper half is dark and of class 0, whose lower half is bright and of class 1."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1], np.uint8), 16)[None, :, None] + np.zeros((2, 32, 32), np.uint8)
    noise = rng.integers(0, 60, (2, 32, 32, 3))
    return Batch((labels[..., None] * 180 + noise).astype(np.uint8), labels)
