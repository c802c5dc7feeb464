"""Where the events of a run go, and what it leaves in output/data for people and programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg.data.report import Report
from semseg.reporting import data_report, metrics_file
from semseg.reporting.events import Event, Sink
from semseg.reporting.log import LogSink
from semseg.reporting.metrics_file import MetricsFile
from semseg.reporting.progress_bar import ProgressBar
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.progress import Progress


def open_sinks(host: str, settings: Hyperparameters, output: Path, progress: Progress, kept: bool) -> Sink:
    """Where events go. The metrics files begin with the epochs of before a restart, the log has told them.

    kept: whether those of an earlier run stay until an epoch has ended.
    """
    metrics = MetricsFile(output, kept)
    for epoch in progress.ended:
        metrics(epoch)
    sinks: list[Sink] = [LogSink(host, settings.logging_frequency), metrics]
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit


@contextmanager
def replacing_results(output: Path, report: Report) -> Iterator[None]:
    """While an earlier run's model is replaced, neither its results are there nor, yet, those of this run."""
    for name in (data_report.FILE, metrics_file.SUMMARY, metrics_file.LINES):
        (output / name).unlink(missing_ok=True)
    yield
    data_report.write_report(report, output)
