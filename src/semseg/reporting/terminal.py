"""What a person at a terminal sees of a training: a line for each epoch, warnings, and the stages of the job."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

from semseg.errors import count_of
from semseg.reporting.events import EpochEnded, Event, Quantized, Resumed, Scored
from semseg.reporting.wrapping import fitted
from semseg.sagemaker.log_lines import is_for_people


class TerminalLog(logging.Handler):
    """Shows the log lines that are meant for people, without time and level; see `log_lines.is_for_people`."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, beside a progress bar if one is drawn."""
        if is_for_people(record):
            label = "Warning: " if record.levelno == logging.WARNING else ""
            _write(f"{label}{record.getMessage()}", self._stream)


class EpochLines:
    """Writes a line at the end of each epoch, with the time that is left. Epochs are counted from 1.

    clock: seconds, from any moment on.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._here = 0
        self._best, self._best_epoch = -math.inf, 0

    def __call__(self, event: Event) -> None:
        """Writes what the event means for a person, if anything."""
        match event:
            case Resumed():
                for epoch in event.epochs:
                    self._keep_best(epoch)
                self._write(f"{count_of(len(event.epochs), 'epoch')} had ended before, {self._best_so_far()}")
            case EpochEnded():
                self._keep_best(event)
                self._here += 1
                self._write(self._line(event))
            case Scored():
                scores = f"mIOU {event.mean_iou:.4f}, pixel accuracy {event.pixel_accuracy:.4f}"
                self._write(f"best model, {event.images} whole images of {event.split}: {scores}")
            case Quantized():
                kept = "kept" if event.kept else "discarded"
                self._write(f"int8: mIOU {event.int8:.4f} instead of {event.f32:.4f}, {kept}")

    def close(self) -> None:
        """Does nothing: each line is written at once."""

    def _line(self, ended: EpochEnded) -> str:
        epoch, epochs = ended.number, ended.epochs
        taken = self._clock() - self._started
        parts = [
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
            f"loss {ended.trained.loss:.4f}",
            f"mIOU {ended.validated.mean_iou:.4f}",
            self._best_so_far(),
        ]
        if epoch < epochs:
            parts.append(f"{_duration(taken / self._here * (epochs - epoch))} left")
        return "  ".join(parts)

    def _keep_best(self, ended: EpochEnded) -> None:
        if ended.improved:
            self._best, self._best_epoch = ended.validated.mean_iou, ended.number

    def _best_so_far(self) -> str:
        return f"best {self._best:.4f} (epoch {self._best_epoch})"

    def _write(self, line: str) -> None:
        _write(line, self._stream)


def _write(text: str, stream: TextIO) -> None:
    with suppress(OSError):  # of a terminal that has been closed: the training is to save its progress all the same
        tqdm.write(fitted(text, stream), file=stream)


def _duration(seconds: float) -> str:
    """Returns a rounded duration: ``45 s``, ``12 min`` or ``3 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
