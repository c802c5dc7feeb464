from __future__ import annotations

import numpy as np
import pytest
import torch_learners
from tiny_network import MakeLearner

from semseg.types import Batch


@pytest.fixture(scope="session")
def tiny_learner() -> MakeLearner:
    """Makes learners on the CPU, with initial values: `tiny_learner("adam", seed=1, precision="bfloat16")`."""
    return torch_learners.tiny_learner


@pytest.fixture
def batch() -> Batch:
    """Two images whose upper half is dark and of class 0, whose lower half is bright and of class 1."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1], np.uint8), 16)[None, :, None] + np.zeros((2, 32, 32), np.uint8)
    noise = rng.integers(0, 60, (2, 32, 32, 3))
    return Batch((labels[..., None] * 180 + noise).astype(np.uint8), labels)
