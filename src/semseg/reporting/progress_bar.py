"""The sink that draws a progress bar for a person at a terminal."""

from __future__ import annotations

from typing import TextIO

from tqdm import tqdm

from semseg.reporting.events import Event, Step


class ProgressBar:
    """Draws one bar for each half of an epoch."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm | None = None

    def __call__(self, event: Event) -> None:
        """Moves the bar by a step; other events say nothing here."""
        if not isinstance(event, Step):
            return
        if event.iteration == 1 or self._bar is None:
            name = f"epoch {event.epoch} {event.phase}"
            self._bar = tqdm(total=event.iterations, desc=name, leave=False, file=self._stream)
        self._bar.update()
        if event.iteration == event.iterations:
            self._bar.close()
