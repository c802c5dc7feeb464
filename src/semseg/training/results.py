"""Opens the sinks of a run's events, and replaces the results of an earlier run in output/data."""

from __future__ import annotations

import sys
import time
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
from semseg.reporting.terminal import EpochLines
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.progress import Progress
from semseg.types import Classes


@contextmanager
def open_sinks(
    host: str,
    settings: Hyperparameters,
    output: Path,
    progress: Progress,
    classes: Classes,
    keep_earlier: bool,
    begun: bool = False,
) -> Iterator[Emit]:
    """Yields the sinks of a run's events: the log, the metrics files in `output` and, at a terminal, a
    progress bar and, unless the log goes there, a line for each epoch.

    After a restart they first receive the epochs that ended before it. They are closed however the run ends.
    keep_earlier: whether an earlier run's metrics files stay until an epoch has ended. begun: whether the log has the
    beginning of the run already.
    """
    sinks: list[Sink] = [
        LogSink(host, settings.logging_frequency, time.time, begun, classes),
        MetricsFile(output, keep_earlier, classes),
    ]
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))
        if not sys.stdout.isatty():  # there the log's lines say the same
            sinks.append(EpochLines(sys.stderr))
    with closing(Sinks(*sinks)) as emit:
        if progress.ended:
            emit(Resumed(progress.ended))
        yield emit


@contextmanager
def replacing_results(output: Path, report: Report) -> Iterator[None]:
    """Removes an earlier run's results; after the body has replaced its model, writes this run's data report."""
    for name in (data_report.FILE, metrics_file.SUMMARY, metrics_file.LINES):
        (output / name).unlink(missing_ok=True)
    yield
    data_report.write_report(report, output)
