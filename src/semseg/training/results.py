"""Where the events of a run go, and what it leaves in output/data for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg.data.report import Report
from semseg.reporting import data_report, metrics_file
from semseg.reporting.events import Sink
from semseg.reporting.log import LogSink
from semseg.reporting.metrics_file import MetricsFile
from semseg.reporting.progress_bar import ProgressBar
from semseg.reporting.sinks import Sinks
from semseg.sagemaker.hyperparameters import Hyperparameters


def open_sinks(host: str, settings: Hyperparameters, output: Path, kept: bool) -> Sink:
    """Returns where the events of a run go: the log, the files of metrics in `output` and, at a terminal, a bar.

    kept: whether the files of an earlier run stay until an epoch has ended.
    """
    sinks: list[Sink] = [LogSink(host, settings.logging_frequency), MetricsFile(output, kept)]
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))
    return Sinks(*sinks)


@contextmanager
def replacing_results(output: Path, report: Report) -> Iterator[None]:
    """While an earlier run's model is replaced, neither its results are there nor, yet, those of this run."""
    for name in (data_report.FILE, metrics_file.SUMMARY, metrics_file.LINES):
        (output / name).unlink(missing_ok=True)
    yield
    data_report.write_report(report, output)
