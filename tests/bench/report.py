"""Measures what report.html costs: the share of an epoch's time that its sink takes.

`report_cost`: the seconds in which the report takes the images of the validation and is written, over those of a whole
epoch of FCN-ResNet50 on CamVid at crop 240, batches of 4, in the same process. The epoch is the last one of a hundred,
so that the report is as long as it gets.

The images are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid; without them, fewer generated ones.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from _train_data import BASE, BATCH, CLASSES, CROP, SAMPLER, training_folder, training_pairs
from gluon_models import learner_from_scratch
from made_report import made_epochs
from untrained import specification

from semseg.data.loader import TrainingLoader, ValidationLoader
from semseg.data.pairs import list_pairs
from semseg.machine import keep_memory_flat
from semseg.reporting.events import Compared, EpochEnded, Event, Resumed
from semseg.reporting.report_file import Background, ReportFile
from semseg.training.loop import Fit
from semseg.training.progress import Progress
from semseg.training.recipe import MMAP_THRESHOLD
from semseg.types import Classes

BAR = 0.02
EPOCHS = 100


class Timed:
    """Passes events on to the report, and adds up its seconds: with the images, and when it is written."""

    def __init__(self, report: ReportFile) -> None:
        self._report = report
        self.images = self.writing = 0.0

    def __call__(self, event: Event) -> None:
        begin = time.perf_counter()
        self._report(event)
        taken = time.perf_counter() - begin
        self.images += taken if isinstance(event, Compared) else 0
        self.writing += taken if isinstance(event, EpochEnded) else 0


def main() -> int:
    """Trains for one epoch; returns 1 if the bar is missed."""
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)
    with tempfile.TemporaryDirectory() as scratch:
        folder = training_folder(Path(scratch))
        pairs = training_pairs(folder)
        validation = list_pairs("validation", folder / "validation", folder / "validation_annotation").pairs
        background = Background("FCN on ResNet-50", EPOCHS, Classes.unknown(CLASSES))
        emit = Timed(ReportFile(Path(scratch), background))
        before = Progress(tuple(made_epochs(EPOCHS - 1, CLASSES)))
        emit(Resumed(before.ended))
        fit = Fit(
            learner=learner_from_scratch(specification("fcn", CLASSES)),
            training=TrainingLoader(pairs, SAMPLER, BATCH),
            validation=ValidationLoader(validation, SAMPLER, batch_size=16),
            schedule=lambda _: 0.001,
            epochs=EPOCHS,
            num_classes=CLASSES,
            seed=0,
            early_stopping=None,
            keep_best=lambda: None,
            emit=emit,
        )
        begin = time.perf_counter()
        fit.run(threading.Event(), before)
        seconds = time.perf_counter() - begin
        size = (Path(scratch) / "report.html").stat().st_size
    print(f"an epoch of {len(pairs)} images at crop {CROP} of {BASE}, {len(validation)} to validate: {seconds:.1f} s")
    print(f"the images {1000 * emit.images:.0f} ms, writing {1000 * emit.writing:.0f} ms, {size / 1e6:.2f} MB")
    cost = (emit.images + emit.writing) / seconds
    print(f"report_cost: {cost:.4f}, bar {BAR}, {'ok' if cost < BAR else 'short'}")
    return int(cost >= BAR)


if __name__ == "__main__":
    sys.exit(main())
