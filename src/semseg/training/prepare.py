"""The first part of the recipe: reads and checks what the job is given, and builds what it needs to train."""

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
from semseg.engines.choose import training_device, training_engine
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.reporting.data_report import write_report
from semseg.reporting.events import Emit
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.inputs import Input, check_inputs
from semseg.training.job import Job, open_job
from semseg.training.job_folder import JobFolder
from semseg.training.parts import announced_schedule, balance, build_learner, require_backbone
from semseg.training.progress import BEGINNING, Progress
from semseg.training.results import open_sinks, replacing_results
from semseg.training.schedules import Schedule

_PATIENCE = 300
"""Seconds without a byte of S3's that training bears: hours may be lost by then. The check before fails early."""


@dataclass(frozen=True)
class Run:
    """A training that is ready to begin, or to go on from `progress`.

    earlier_stays: whether the directory of the model holds one of an earlier training, which stays until this one has a
    model; emit: takes the events of the run.
    """

    job: Job
    progress: Progress
    earlier_stays: bool
    learner: Learner
    schedule: Schedule
    artifact: ArtifactWriter
    emit: Emit


def prepare(paths: Paths, stop: threading.Event, folder: JobFolder | None, resources: ExitStack) -> Run:
    """Returns the training that the job below `paths` asks for, once all its data is read and found sound.

    folder: that of a job outside SageMaker; resources: closes at the end of the job what is open until then: the store,
    a temporary directory, the sinks of events. Raises UserError for whatever the user can mend, and Stopped when `stop`
    is set before there is anything to save.
    """
    store = resources.enter_context(ObjectStore(stop=stop.is_set))
    scratch = resources.enter_context(tempfile.TemporaryDirectory(prefix="semseg-"))
    job = open_job(paths, folder, store, Path(scratch))
    settings, given = job.settings, job.given
    checkpoint = job.checkpoints.newest() if job.checkpoints else None
    progress = checkpoint.progress if checkpoint else BEGINNING
    earlier_stays = folder is not None and not progress.ended and bool(model_dir.files_of_model(paths.model))
    engine = training_engine()
    device = training_device(engine, settings.device, job.hosts.gpu_instance)
    require_backbone(settings, given.earlier, checkpoint)
    try:
        report = _check(given.splits, settings.workers, stop, None if earlier_stays else paths.output_data)
    except Stopped as stopped:
        if not checkpoint:
            raise
        if folder:
            raise Stopped("Stopped before training went on: model and checkpoint stay as they were.") from stopped
        report = None  # nothing is trained any more, but the model of the checkpoint is to be saved
    weights = balance(settings, report) if report else None
    store.patience = _PATIENCE

    learner = build_learner(settings, given.earlier, checkpoint, weights, engine, device)
    schedule = announced_schedule(settings, job.samples)
    sinks = open_sinks(job.hosts.current, settings, paths.output_data, progress, kept=earlier_stays)
    emit = resources.enter_context(sinks)
    beginning = partial(replacing_results, paths.output_data, report) if earlier_stays and report else nullcontext
    artifact = ArtifactWriter(paths.model, settings, given.class_names, emit, beginning)
    if checkpoint and checkpoint.best:
        artifact.save(model_dir.BEST, checkpoint.write_best)
    # without the checkpoint: its file is mapped, and would take room even when later ones have replaced it
    return Run(job, progress, earlier_stays, learner, schedule, artifact, emit)


def _check(inputs: tuple[Input, ...], workers: int, stop: threading.Event, output: Path | None) -> Report:
    """Reads all files once, leaves a report of them if told where, and raises DataError for all that is wrong."""
    report = check_inputs(inputs, workers, stop.is_set)
    if output:
        write_report(report, output)
    for suspicion in report.suspicions:
        LOGGER.warning(suspicion)
    report.raise_problems()
    return report
