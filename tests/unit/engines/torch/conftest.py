from __future__ import annotations

import pytest
import torch_learners
from tiny_network import MakeLearner


@pytest.fixture(scope="session")
def tiny_learner() -> MakeLearner:
    """Makes learners on the CPU, with initial values: `tiny_learner("adam", seed=1, precision="bfloat16")`."""
    return torch_learners.tiny_learner
