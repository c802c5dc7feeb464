"""What is stored of MXNet, for tests without it, is what MXNet computes."""

from __future__ import annotations

import golden
import make_golden
import numpy as np
import pytest
from untrained import ALGORITHMS, ENCODERS

from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Arrays


@pytest.fixture(scope="module")
def stored() -> Arrays:
    return golden.stored()


def require_stored(found: Arrays, stored: Arrays) -> None:
    for name, array in found.items():
        largest = np.abs(array).max()
        np.testing.assert_allclose(stored[name], array, rtol=0, atol=5e-6 * largest, err_msg=name)


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_logits(stored: Arrays, algorithm: str, backbone: str) -> None:
    require_stored(make_golden.logits(algorithm, backbone), stored)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_updates(stored: Arrays, name: str) -> None:
    require_stored(make_golden.updates(name), stored)


def test_the_losses(stored: Arrays) -> None:
    require_stored({golden.TRAINING: make_golden.losses()}, stored)
