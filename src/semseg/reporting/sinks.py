"""Several sinks as one."""

from __future__ import annotations

from contextlib import ExitStack

from semseg.reporting.events import Event, Sink


class Sinks:
    """Hands each event to all its sinks, in their order, and closes them all."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def __call__(self, event: Event) -> None:
        """Hands one event on."""
        for sink in self._sinks:
            sink(event)

    def close(self) -> None:
        """Closes every sink, the last one first, whichever of them fails; raises what one of them raised."""
        with ExitStack() as ends:
            for sink in self._sinks:
                ends.callback(sink.close)
