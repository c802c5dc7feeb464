"""The sink that writes a run's metrics: metrics.jsonl, a line an epoch, and metrics.json, the summary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from semseg.files import replacing
from semseg.reporting.events import EpochEnded, Event, Quantized, Resumed, Scored
from semseg.types import Classes

LINES = "metrics.jsonl"
SUMMARY = "metrics.json"

_JSON_NAMES = {"images": "pictures", "mean_iou": "mIOU", "mean_iou_present": "mIOU_present", "iou": "IOU"}


class MetricsFile:
    """Rewrites `metrics.jsonl` and `metrics.json` atomically whenever an epoch ends, so that both are always complete.

    keep_earlier: whether an earlier run's files stay until the first epoch ends; otherwise they are removed at once.
    classes: if any of them has a name, the summary says what to call each.
    """

    def __init__(self, directory: Path, keep_earlier: bool = False, classes: Classes | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lines_file = directory / LINES
        self._summary_file = directory / SUMMARY
        self._lines = ""
        self._summary: dict[str, Any] = {"classes": classes.titles} if classes and classes.named else {}
        self._best: dict[str, Any] = {}
        self._whole_images: dict[str, Any] = {}
        if not keep_earlier:
            _write(self._lines_file, self._lines)
            self._summary_file.unlink(missing_ok=True)

    def __call__(self, event: Event) -> None:
        """Writes the metrics of epochs, whole images and int8; ignores other events.

        After a restart, the files are rebuilt with the epochs that ended before it.
        """
        match event:
            case Resumed():
                for epoch in event.epochs:
                    self._epoch(epoch)
            case EpochEnded():
                self._epoch(event)
            case Scored():
                values = {name: value for name, value in vars(event).items() if name != "split"}
                self._whole_images[event.split] = {_JSON_NAMES.get(name, name): value for name, value in values.items()}
                self._summarise(whole_pictures=self._whole_images)
            case Quantized():
                numbers = {"mIOU_f32": event.f32, "mIOU_int8": event.int8, "pictures": event.images}
                self._summarise(int8=numbers | {"kept": event.kept})

    def close(self) -> None:
        """Does nothing: the files are always complete."""

    def _epoch(self, event: EpochEnded) -> None:
        line = {
            "epoch": event.trained.epoch,
            "train_loss": event.trained.loss,
            "validation_loss": event.validated.loss if math.isfinite(event.validated.loss) else None,  # JSON has no NaN
            "learning_rate": event.trained.learning_rate,
            "train_throughput": event.trained.samples_per_second,
            "train_waiting": event.trained.waiting,
            "validation_throughput": event.validated.samples_per_second,
            "pixel_accuracy": event.validated.pixel_accuracy,
            "mIOU": event.validated.mean_iou,
            "mIOU_present": event.validated.mean_iou_present,
            "IOU": event.validated.iou,
        }
        self._best = line if event.improved else self._best
        self._lines += json.dumps(line) + "\n"
        _write(self._lines_file, self._lines)
        self._summarise(epochs=event.epochs, epochs_run=event.trained.epoch + 1, best=self._best, last=line)

    def _summarise(self, **numbers: Any) -> None:
        self._summary |= numbers
        _write(self._summary_file, json.dumps(self._summary, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)
