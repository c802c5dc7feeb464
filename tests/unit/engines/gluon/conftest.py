from __future__ import annotations

from typing import Any

import pytest
from gluon_models import tiny_model

from semseg.engines.gluon import runtime


@pytest.fixture(scope="session")
def mx() -> Any:
    return runtime.load()


@pytest.fixture
def model(mx: Any) -> Any:
    mx.random.seed(1)
    return tiny_model(3)
