"""Optional work after the model has been saved, whose failure must not fail the job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semseg.errors import Stopped
from semseg.sagemaker.log_lines import LOGGER


@contextmanager
def best_effort(output: str) -> Iterator[None]:
    """Logs a warning instead of raising any exception from the body, which produces the optional `output`."""
    try:
        yield
    except Stopped:
        LOGGER.warning("Stopping on request, without %s.", output)
    except Exception as error:
        LOGGER.warning("The model is complete, but without %s. %s", output, str(error) or repr(error))
