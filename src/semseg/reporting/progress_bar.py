"""The sink that draws a progress bar at a terminal."""

from __future__ import annotations

from typing import TextIO

from tqdm import tqdm

from semseg.reporting.events import EpochTrained, EpochValidated, Event, Step


class ProgressBar:
    """Draws a bar for each half of an epoch; epochs are counted from 1."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm | None = None

    def __call__(self, event: Event) -> None:
        """Advances the bar by a step, and removes it at the end of either half."""
        match event:
            case Step():
                self._step(event)
            case EpochTrained() | EpochValidated():
                self.close()

    def close(self) -> None:
        """Removes the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _step(self, step: Step) -> None:
        if self._bar is None:
            name = f"epoch {step.epoch + 1} {step.phase}"
            self._bar = tqdm(
                total=step.iterations, initial=step.iteration - 1, desc=name, leave=False, file=self._stream
            )
        self._bar.update()
