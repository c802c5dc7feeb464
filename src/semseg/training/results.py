"""Where the events of a run go, and what it leaves in output/data for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from semseg.data.report import Report
from semseg.reporting import data_report, metrics_file
from semseg.reporting.events import Emit, Resumed, Sink
from semseg.reporting.log import LogSink
from semseg.reporting.metrics_file import MetricsFile
from semseg.reporting.progress_bar import ProgressBar
from semseg.reporting.sinks import Sinks
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.progress import Progress


@contextmanager
def open_sinks(host: str, settings: Hyperparameters, output: Path, progress: Progress, kept: bool) -> Iterator[Emit]:
    """Gives where the events of a run go: to the log, the metrics files in `output` and, at a terminal, a bar.

    After a restart all of them are given the epochs of before; they are closed in the end, however the run ends.
    kept: whether the metrics files of an earlier run stay until an epoch has ended.
    """
    sinks: list[Sink] = [LogSink(host, settings.logging_frequency), MetricsFile(output, kept)]
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))
    with closing(Sinks(*sinks)) as emit:
        if progress.ended:
            emit(Resumed(progress.ended))
        yield emit


@contextmanager
def replacing_results(output: Path, report: Report) -> Iterator[None]:
    """While an earlier run's model is replaced, neither its results are there nor, yet, those of this run."""
    for name in (data_report.FILE, metrics_file.SUMMARY, metrics_file.LINES):
        (output / name).unlink(missing_ok=True)
    yield
    data_report.write_report(report, output)
