"""Combines several sinks into one."""

from __future__ import annotations

from contextlib import ExitStack

from semseg.reporting.events import Event, Sink


class Sinks:
    """Passes each event to all its sinks, in order, and closes them all."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def __call__(self, event: Event) -> None:
        """Passes one event to each sink."""
        for sink in self._sinks:
            sink(event)

    def close(self) -> None:
        """Closes every sink, last one first, even if one fails; then raises what the failing one raised."""
        with ExitStack() as ends:
            for sink in self._sinks:
                ends.callback(sink.close)
