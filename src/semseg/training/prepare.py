"""The first stage of a training job: reads and checks its inputs, and builds what training needs."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semseg.artifact import model_dir
from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.reporting.data_report import write_report
from semseg.reporting.events import Emit
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.components import (
    build_learner,
    build_schedule,
    choose_class_weights,
    require_backbone,
    require_network,
)
from semseg.training.inputs import Input, check_inputs
from semseg.training.job import Job, open_job
from semseg.training.job_folder import JobFolder
from semseg.training.progress import BEGINNING, Progress
from semseg.training.results import background, open_sinks, replacing_results
from semseg.training.schedules import Schedule

_PATIENCE = 300
"""Seconds to wait for S3 during training, when failing may lose hours of work. The data check fails sooner."""


@dataclass(frozen=True)
class Run:
    """A training that is ready to start, or to resume from `progress`.

    keep_earlier: whether the model directory holds an earlier training's model, which stays until this one has a model.
    emit: takes the events of the run.
    """

    job: Job
    progress: Progress
    keep_earlier: bool
    learner: Learner
    schedule: Schedule
    artifact: ArtifactWriter
    emit: Emit


def prepare(paths: Paths, stop: threading.Event, folder: JobFolder | None, resources: ExitStack) -> Run:
    """Returns the run of the job below `paths`, after all its data has been read and checked.

    folder: the job's folder outside SageMaker, else None. resources: closes the object store, a temporary directory and
    the event sinks at the end of the job. Raises UserError for whatever the user can fix, and Stopped if `stop` is set
    before there is anything to save.
    """
    store = resources.enter_context(ObjectStore(stop=stop.is_set))
    scratch = resources.enter_context(tempfile.TemporaryDirectory(prefix="semseg-"))
    job = open_job(paths, folder, store, Path(scratch))
    settings, inputs = job.settings, job.inputs
    checkpoint = job.checkpoints.newest() if job.checkpoints else None
    progress = checkpoint.progress if checkpoint else BEGINNING
    keep_earlier = folder is not None and not progress.ended and bool(model_dir.files_of_model(paths.model))
    require_network(settings, job.trainer.engine)
    require_backbone(settings, inputs.earlier, checkpoint)
    try:
        report = _check(inputs.splits, settings.workers, stop, None if keep_earlier else paths.output_data)
    except Stopped as stopped:
        if not checkpoint:
            raise
        if folder:
            raise Stopped("Stopped before training resumed: model and checkpoint are unchanged.") from stopped
        report = None  # no further training, but the checkpoint's model is still saved
    weights = choose_class_weights(settings, report) if report else None
    store.patience = _PATIENCE

    learner = build_learner(settings, inputs.earlier, checkpoint, weights, job.trainer)
    schedule = build_schedule(settings, job.samples)
    known = background(settings, inputs.classes, report)
    sinks = open_sinks(job.hosts.current, settings, paths.output_data, progress, known, keep_earlier=keep_earlier)
    emit = resources.enter_context(sinks)
    replacing = partial(replacing_results, paths.output_data, report) if keep_earlier and report else nullcontext
    artifact = ArtifactWriter(paths.model, settings, inputs.classes, emit, replacing)
    if checkpoint and checkpoint.best:
        artifact.save(model_dir.BEST, checkpoint.write_best)
    # The run does not hold the checkpoint: while its file is mapped, it takes disk space even after its removal.
    return Run(job, progress, keep_earlier, learner, schedule, artifact, emit)


def _check(inputs: tuple[Input, ...], workers: int, stop: threading.Event, output: Path | None) -> Report:
    """Reads all files once, writes a report into `output` if given, and raises DataError for all problems."""
    report = check_inputs(inputs, workers, stop.is_set)
    if output:
        write_report(report, output)
    for suspicion in report.suspicions:
        LOGGER.warning(suspicion)
    report.raise_problems()
    return report
