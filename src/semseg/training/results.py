"""Opens the sinks of a run's events, and replaces the results of an earlier run in output/data."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from semseg.data.report import Report
from semseg.errors import SemsegError, Stopped
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.reporting import data_report, metrics_file
from semseg.reporting.events import Emit, Failed, Resumed, Sink
from semseg.reporting.html import render
from semseg.reporting.log import LogSink
from semseg.reporting.metrics_file import MetricsFile
from semseg.reporting.model_card import ModelCard
from semseg.reporting.progress_bar import ProgressBar
from semseg.reporting.report_file import Background, ReportFile
from semseg.reporting.sinks import Sinks
from semseg.reporting.terminal import EpochLines
from semseg.reporting.versions import versions
from semseg.training.best_effort import OptionalSink
from semseg.training.job import Job
from semseg.training.progress import Progress

_TENSORBOARD = "tensorboard"
_REPLACED = (
    data_report.FILE,
    metrics_file.SUMMARY,
    metrics_file.LINES,
    render.FILE,
    f"{_TENSORBOARD}/events.out.tfevents.*",
)
"""What an earlier run has left in output/data."""

_OF_RANKS = "The images of this report were chosen among those that the first of {} ranks has validated."


@contextmanager
def open_sinks(
    job: Job,
    report: Report | None,
    progress: Progress,
    keep_earlier: bool,
    begun: bool = False,
    shown: Path | None = None,
) -> Iterator[Emit]:
    """Yields the sinks of a run's events: the log; the metrics, the report and TensorBoard's files in `output`; the
    model card; and, at a terminal, a progress bar and, unless the log goes there, a line for each epoch.

    After a restart they first receive the epochs that ended before it. They are closed however the run ends; if it
    fails, they receive the reason before.
    report: of the data check; None if it was stopped. keep_earlier: whether an earlier run's results stay until an
    epoch has ended. begun: whether another process has trained, and this one completes the run: the log has its
    beginning already. shown: where that process keeps what the report shows for this one.
    """
    settings, output, resumes = job.settings, job.paths.output_data, progress.updates > 0
    known = _background(job, report)
    if not keep_earlier and not resumes:
        _remove(output, _REPLACED[1:])  # the data report is this run's already
    sinks: list[Sink] = [
        LogSink(job.hosts.current, settings.logging_frequency, time.time, begun, known.classes),
        MetricsFile(output, keep_earlier, known.classes),
        OptionalSink(ReportFile(output, known, keep_earlier or resumes, shown), render.FILE),
        OptionalSink(ModelCard(job.paths.model, known, begun), "the model card"),
    ]
    if settings.tensorboard:
        sinks.append(
            OptionalSink(_tensorboard(output, known, resumes, keep_earlier and not begun), "TensorBoard's files")
        )
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))
        if not sys.stdout.isatty():  # there the log's lines say the same
            sinks.append(EpochLines(sys.stderr))
    with closing(Sinks(*sinks)) as emit:
        if progress.ended:
            emit(Resumed(progress.ended))
        try:
            yield emit
        except Stopped:
            raise
        except Exception as error:
            emit(Failed(str(error) if isinstance(error, SemsegError) else repr(error)))
            raise


@contextmanager
def replacing_results(output: Path, report: Report) -> Iterator[None]:
    """Removes an earlier run's results; after the body has replaced its model, writes this run's data report."""
    _remove(output, _REPLACED)
    yield
    data_report.write_report(report, output)


def _background(job: Job, report: Report | None) -> Background:
    """Returns what the report and the model card say of a training besides its events."""
    settings = job.settings
    network, backbone = by_name(settings.algorithm, NETWORKS), by_name(settings.backbone, BACKBONES)
    notes = [report.image_scale] if report and report.image_scale else []
    if job.ranks.size > 1:
        notes.append(_OF_RANKS.format(job.ranks.size))
    return Background(
        f"{network.title} on {backbone.title}",
        settings.epochs,
        job.inputs.classes,
        data=report,
        crops=settings.validation_mini_batch_size > 1,
        notes=notes,
        settings=settings.as_strings(),
        versions=versions(),
    )


def _tensorboard(output: Path, known: Background, resumes: bool, keep_earlier: bool) -> Sink:
    from semseg.reporting.tensorboard import TensorBoard  # imported late: slow, and rarely needed

    return TensorBoard(output / _TENSORBOARD, known.classes.titles, resumes, keep_earlier)


def _remove(output: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)
