"""The sink that writes TensorBoard's event files."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event as Entry
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from semseg.reporting.events import EpochEnded, Event, Resumed, Scored, Step

_FILE_VERSION = "brain.Event:2"
_NOT_IN_TAGS = re.compile(r"[^-/\w.]")


class TensorBoard:
    """Writes the loss and the learning rate of each update, and the metrics of each epoch, into files in `folder`.

    Tags that begin with `update/` count updates from 1, all others epochs from 0. If there are files of a run that
    resumes, they stay, and TensorBoard leaves out of them the updates that are made again; without them, the epochs of
    before are written again. The entries are written by this thread, so that a full disk raises OSError.
    class_titles: what to call each class, in the order of the ids. resumes: whether the files there are this run's.
    held: whether nothing is written until an epoch has ended.
    """

    def __init__(self, folder: Path, class_titles: Sequence[str], resumes: bool = False, held: bool = False) -> None:
        self._folder = folder.absolute()
        self._tags = [_NOT_IN_TAGS.sub("_", f"IOU/{number} {title}") for number, title in enumerate(class_titles)]
        self._continues = resumes and any(self._folder.glob("*"))
        self._held = held
        self._updates = 0
        self._pending: list[Entry] = []
        self._writer: RecordWriter | None = None

    def __call__(self, event: Event) -> None:
        """Writes the numbers of updates, epochs and whole images."""
        match event:
            case Resumed():
                for epoch in event.epochs:
                    self._updates += epoch.trained.iterations
                    if not self._continues:
                        self._epoch(epoch)
            case Step(phase="training"):
                self._step(event)
            case EpochEnded():
                self._updates += event.trained.iterations
                self._held = False
                self._epoch(event)
                self._flush()
            case Scored():
                values = {"mIOU": event.mean_iou, "pixel_accuracy": event.pixel_accuracy}
                self._add({f"whole_{event.split}/{name}": value for name, value in values.items()}, 0)
                self._flush()

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._writer:
            self._writer.close()

    def _step(self, step: Step) -> None:
        update = self._updates + step.iteration
        if self._continues:
            again = Entry(wall_time=time.time(), step=update, session_log=SessionLog(status=SessionLog.START))
            self._pending.append(again)
            self._continues = False
        self._add({"update/loss": step.loss, "update/learning_rate": step.learning_rate}, update)

    def _epoch(self, ended: EpochEnded) -> None:
        trained, validated = ended.trained, ended.validated
        values = {
            "train/loss": trained.loss,
            "train/learning_rate": trained.learning_rate,
            "train/throughput": trained.samples_per_second,
            "validation/loss": validated.loss,
            "validation/pixel_accuracy": validated.pixel_accuracy,
            "validation/mIOU": validated.mean_iou,
            "validation/mIOU_present": validated.mean_iou_present,
            "validation/throughput": validated.samples_per_second,
        }
        self._add(values | dict(zip(self._tags, validated.iou, strict=True)), trained.epoch)

    def _add(self, values: dict[str, float | None], step: int) -> None:
        """Adds an entry of the values that are numbers."""
        entry = Entry(wall_time=time.time(), step=step)
        for tag, value in values.items():
            if value is not None and math.isfinite(value):
                entry.summary.value.extend(scalar(tag, value).value)
        self._pending.append(entry)
        if not self._held:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(str(self._folder / _new_name()))
            self._pending.insert(0, Entry(wall_time=time.time(), file_version=_FILE_VERSION))
        for entry in self._pending:
            self._writer.write(entry.SerializeToString())
        self._pending.clear()

    def _flush(self) -> None:
        if self._writer:
            self._writer.flush()


def _new_name() -> str:
    """A name by which TensorBoard finds the file, and that no earlier process has used."""
    return f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
