"""Optional work, whose failure must not fail the job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from semseg.errors import DiskFullError, Stopped
from semseg.reporting.events import Event, Sink
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


class OptionalSink:
    """Passes events to a sink whose failure is logged as a warning, and does not fail the training.

    After an error of reading or writing the sink is given the next events all the same, as there may be space again;
    after any other, none. output: what it writes.
    """

    def __init__(self, sink: Sink, output: str) -> None:
        self._sink = sink
        self._output = output
        self._works = True

    def __call__(self, event: Event) -> None:
        """Passes one event on."""
        self._try(partial(self._sink, event))

    def close(self) -> None:
        """Closes the sink."""
        self._try(self._sink.close)

    def _try(self, act: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            act()
        except (OSError, DiskFullError) as error:
            LOGGER.warning("The training goes on, but %s could not be written. %s", self._output, error)
        except Exception:
            self._works = False
            LOGGER.warning("The training goes on without %s.", self._output, exc_info=True)
