"""The sink that writes report.html, whenever an epoch ends and at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semseg.data.report import Report
from semseg.errors import count_of
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import (
    Compared,
    Counted,
    EpochEnded,
    EpochTrained,
    EpochValidated,
    Event,
    Failed,
    Quantized,
    Scored,
    Stopping,
)
from semseg.reporting.history import History
from semseg.reporting.html.content import Figure, ReportContent, SampleGroup
from semseg.reporting.html.render import FILE, split_shares, write_report
from semseg.reporting.html.samples import SampleChooser
from semseg.reporting.validation import Validation, load_validation, save_validation
from semseg.types import Classes

_SAME = "The same images in every epoch, chosen by their names alone."
_WORST = "The images of this validation with the largest share of wrong pixels."


@dataclass(frozen=True, eq=False)
class Background:
    """What is known of a training before it starts.

    title: what is trained. planned: the number of epochs to run. classes: their names and colours. data: the result of
    the data check, None without one. crops: whether epochs are validated on crops, rather than on whole images. notes:
    what should be known besides, a sentence or more each. settings, versions: by name.
    """

    title: str
    planned: int
    classes: Classes
    data: Report | None = None
    crops: bool = True
    notes: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


class ReportFile:
    """Rewrites `report.html` atomically whenever an epoch ends or the best model is scored, and when it is closed.

    Measures of the classes, confusion matrix and images are those of the best epoch, whose model will be served; after
    a restart, of the latest one until a better one ends. At most 16 small images are kept in memory.
    keep_earlier: whether a report that is there stays until an epoch has ended; otherwise it is removed at once.
    shown: a file that keeps what is shown of a validation, for the process that completes the run; None for none.
    """

    def __init__(
        self, directory: Path, background: Background, keep_earlier: bool = False, shown: Path | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FILE
        self._background = background
        self._history = History()
        self._chooser = SampleChooser()
        self._matrix: ConfusionMatrix | None = None
        self._kept = shown
        self._shown = load_validation(shown) if shown and shown.exists() else None
        self._keep_earlier = keep_earlier
        self._stopping, self._failure = False, ""
        if not keep_earlier:
            self._path.unlink(missing_ok=True)

    def __call__(self, event: Event) -> None:
        """Takes what the report shows, and writes it. Raises DiskFullError and OSError."""
        self._history(event)
        match event:
            case EpochTrained():
                self._chooser, self._matrix = SampleChooser(), None
            case Compared():
                self._chooser.add(event.batch, event.predicted)
            case Counted():
                self._matrix = event.matrix
            case EpochEnded():
                self._choose(event)
                self._keep_earlier = False
                self._write(f"{event.number} of {event.epochs} epochs are done.")
            case Scored() | Quantized():
                self._write(self._ended())
            case Stopping():
                self._stopping = True
            case Failed():
                self._failure = event.reason

    def close(self) -> None:
        """Writes the report for the last time, unless there is nothing to add to the one that was kept."""
        if not self._keep_earlier or self._shown or (self._history.epochs and not self._path.exists()):
            self._write(self._ended())

    def _choose(self, ended: EpochEnded) -> None:
        """Shows the validation of this epoch, unless that of a better one is shown."""
        best = self._history.best
        is_best_shown = self._shown and best and self._shown.epoch == best.trained.epoch
        if self._matrix and not is_best_shown:
            self._shown = Validation(ended.trained.epoch, self._matrix, self._chooser.same, self._chooser.worst)
            if self._kept:
                save_validation(self._shown, self._kept)

    def _ended(self) -> str:
        done, planned = len(self._history.epochs), self._background.planned
        if self._failure:
            return f"Failed after {done} of {planned} epochs."
        if self._stopping:
            return f"Stopped on request after {done} of {planned} epochs."
        return "All epochs are done." if done == planned else f"Ended early, after {done} of {planned} epochs."

    def _write(self, status: str) -> None:
        known, shown = self._background, self._shown
        best = self._history.best
        where = "validation crops" if known.crops else "whole validation images"
        is_best = ", the best" if shown and best and shown.epoch == best.trained.epoch else ""
        scored = self._history.scored
        content = ReportContent(
            kind="Training report",
            title=known.title,
            status=status,
            failure=self._failure,
            classes=known.classes,
            figures=self._figures(),
            epochs=self._history.epochs,
            matrix=shown.matrix if shown else None,
            measured_on=f"epoch {shown.number}{is_best}, on the {where}" if shown else "",
            class_columns={f"IoU, whole {split}": found.iou for split, found in scored.items()},
            shares=split_shares(known.data),
            samples=_groups(shown, is_best) if shown else (),
            data=known.data,
            notes=known.notes,
            settings=known.settings,
            versions=known.versions,
        )
        write_report(content, self._path)

    def _figures(self) -> list[Figure]:
        figures = []
        if best := self._history.best:
            of = f"epoch {best.number}"
            figures += _mean_ious("Best mIOU", best.validated, of)
            figures.append(Figure("Pixel accuracy", best.validated.pixel_accuracy, of))
        for split, found in self._history.scored.items():
            figures += _mean_ious(f"mIOU, whole {split}", found, f"best model, {count_of(found.images, 'image')}")
        if int8 := self._history.quantized:
            kept = "kept" if int8.kept else "discarded"
            figures.append(Figure("mIOU in int8", int8.int8, f"{int8.f32:.4f} in f32; {kept}"))
        return figures


def _mean_ious(name: str, found: EpochValidated | Scored, of: str) -> list[Figure]:
    """The mIOU over all classes and, if some are not annotated, over the others."""
    absent = found.iou.count(None)
    if not absent:
        return [Figure(name, found.mean_iou, of)]
    return [
        Figure(name, found.mean_iou, f"{of}; {absent} absent of {len(found.iou)} classes as 0"),
        Figure(f"{name}, present", found.mean_iou_present, f"{of}; annotated classes"),
    ]


def _groups(shown: Validation, is_best: str) -> list[SampleGroup]:
    of = f" Epoch {shown.number}{is_best}."
    groups = [SampleGroup("Fixed images", _SAME + of, shown.same), SampleGroup("Most errors", _WORST + of, shown.worst)]
    return [group for group in groups if group.samples]
