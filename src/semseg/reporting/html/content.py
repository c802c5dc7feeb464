"""The values that a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from semseg.data.report import Report
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.events import EpochEnded
from semseg.reporting.html.samples import Sample
from semseg.types import Classes


@dataclass(frozen=True)
class Figure:
    """A number at the top of a report. value: its exact value; None where there is none. note: what it was taken of."""

    name: str
    value: float | int | None
    note: str = ""


@dataclass(frozen=True)
class SampleGroup:
    """Images below a heading, with a sentence on how they were chosen."""

    heading: str
    text: str
    samples: Sequence[Sample]


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that a report shows; what is empty or None is left out of it.

    kind: what the report is on, such as `Training report`. title: what was trained or evaluated. status: a sentence on
    how far it is. failure: why it failed, empty if it did not. classes: their names and colours. epochs: those that
    have ended, for the curves. matrix: what the confusion matrix and the measures of the classes are taken from;
    measured_on: that, in words. class_columns: further measures of each class, 0 to 1, by the heading of their column.
    shares: the share of each class in the pixels, 0 to 1, by split. data: the result of the data check. notes: what
    should be known besides, a sentence or more each. settings, versions: by name. settings_title: the heading of the
    settings.
    """

    kind: str
    title: str
    status: str
    classes: Classes
    failure: str = ""
    figures: Sequence[Figure] = ()
    epochs: Sequence[EpochEnded] = ()
    matrix: ConfusionMatrix | None = None
    measured_on: str = ""
    class_columns: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)
    samples: Sequence[SampleGroup] = ()
    data: Report | None = None
    notes: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    settings_title: str = "Hyperparameters"
    versions: Mapping[str, str] = field(default_factory=dict)
