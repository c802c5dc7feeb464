from __future__ import annotations

from collections.abc import Iterator

import pytest

from semseg.sagemaker.log_lines import LOGGER


@pytest.fixture(autouse=True)
def _restore_log() -> Iterator[None]:
    """Commands direct the log to their stdout; a test must not hear of another's."""
    handlers, level, propagate = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    yield
    LOGGER.handlers, LOGGER.propagate = handlers, propagate
    LOGGER.setLevel(level)
