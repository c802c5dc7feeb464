"""What a job does for a model that is saved already, and which must not fail it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semseg.errors import Stopped
from semseg.sagemaker.log_lines import LOGGER


@contextmanager
def complete_without(what: str) -> Iterator[None]:
    """Make a warning of whatever is raised within: the model is complete without `what`."""
    try:
        yield
    except Stopped:
        LOGGER.warning("Stopping as told, without %s.", what)
    except Exception as error:
        LOGGER.warning("The model is complete, but without %s. %s", what, str(error) or repr(error))
