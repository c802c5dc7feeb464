"""The first stage of a training job: reads and checks its inputs, and builds what training needs."""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from semseg.artifact import model_dir
from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.engines.group import ALONE, Group, shared_by
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.files import scratch_folder
from semseg.reporting.data_report import write_report
from semseg.reporting.events import Emit, Event
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import Checkpoint
from semseg.training.components import (
    build_learner,
    build_schedule,
    choose_class_weights,
    require_backbone,
    require_network,
)
from semseg.training.inputs import Input, check_inputs, scale_note
from semseg.training.job import Job, open_job
from semseg.training.job_folder import JobFolder
from semseg.training.progress import BEGINNING, Progress
from semseg.training.results import open_sinks, replacing_results
from semseg.training.schedules import Schedule

PATIENCE = 300
"""Seconds to wait for S3 during training, when failing may lose hours of work. The data check fails sooner."""


@dataclass(frozen=True)
class Checked:
    """A job whose data has been read and checked.

    checkpoint: what training resumes from, None for its beginning. keep_earlier: whether the model directory holds an
    earlier training's model, which stays until this one has a model. report: on the data; None if the job was stopped
    meanwhile, but has a checkpoint whose model is still saved. weights: of the classes in the loss, None for 1 each.
    """

    job: Job
    checkpoint: Checkpoint | None
    keep_earlier: bool
    report: Report | None
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class Run:
    """A training that is ready to start, or to resume from `progress`.

    keep_earlier: as in Checked. emit: takes the events of the run. group: the ranks that train together; all but rank 0
    neither emit nor save.
    """

    job: Job
    progress: Progress
    keep_earlier: bool
    learner: Learner
    schedule: Schedule
    artifact: ArtifactWriter
    emit: Emit
    group: Group = ALONE


def check_job(paths: Paths, stop: threading.Event, folder: JobFolder | None, resources: ExitStack) -> Checked:
    """Returns the job below `paths`, after all its data has been read and checked.

    folder: the job's folder outside SageMaker, else None. resources: closes the object store and a temporary directory
    at the end of the job. Raises UserError for whatever the user can fix, and Stopped if `stop` is set before there is
    anything to save.
    """
    store = resources.enter_context(ObjectStore(stop=stop.is_set))
    scratch = resources.enter_context(scratch_folder())
    job = open_job(paths, folder, store, scratch)
    settings, inputs = job.settings, job.inputs
    checkpoint = job.checkpoints.newest() if job.checkpoints else None
    ended = bool(checkpoint and checkpoint.progress.ended)
    keep_earlier = folder is not None and not ended and bool(model_dir.files_of_model(paths.model))
    require_network(settings, job.trainer.engine)
    require_backbone(settings, inputs.earlier, checkpoint)
    output = paths.output_data if job.ranks.saves and not keep_earlier else None
    try:
        report = _check(inputs.splits, settings, stop, output)
    except Stopped as stopped:
        if not checkpoint:
            raise
        if folder:
            raise Stopped("Stopped before training resumed: model and checkpoint are unchanged.") from stopped
        report = None  # no further training, but the checkpoint's model is still saved
    weights = choose_class_weights(settings, report) if report else None
    store.patience = PATIENCE
    return Checked(job, checkpoint, keep_earlier, report, weights)


def assemble(checked: Checked, resources: ExitStack, group: Group = ALONE, shown: Path | None = None) -> Run:
    """Returns the run of a job; in a group, the part of one of its ranks, all of which call this.

    resources: closes the event sinks. shown: as for `open_sinks`. The run does not hold the checkpoint: while its file
    is mapped, it takes disk space even after its removal.
    """
    job, checkpoint = checked.job, checked.checkpoint
    paths, settings, inputs = job.paths, job.settings, job.inputs
    learner = build_learner(settings, inputs.earlier, checkpoint, checked.weights, job.trainer, group)
    schedule = build_schedule(settings, job.samples)
    progress = checkpoint.progress if checkpoint else BEGINNING
    if group.size > 1:
        progress = Progress.from_json(shared_by(group, progress.to_json().encode()).decode())
    if group.rank:
        ignore = ArtifactWriter(paths.model, settings, inputs.classes, _ignored)
        return Run(job, progress, False, learner, schedule, ignore, _ignored, group)
    keep_earlier, report = checked.keep_earlier, checked.report
    sinks = open_sinks(job, report, progress, keep_earlier, shown=shown)
    emit = resources.enter_context(sinks)
    replacing = partial(replacing_results, paths.output_data, report) if keep_earlier and report else nullcontext
    artifact = ArtifactWriter(paths.model, settings, inputs.classes, emit, replacing, inputs.label_maps)
    if checkpoint and checkpoint.best:
        artifact.save(model_dir.BEST, checkpoint.write_best)
    return Run(job, progress, keep_earlier, learner, schedule, artifact, emit, group)


def prepare(paths: Paths, stop: threading.Event, folder: JobFolder | None, resources: ExitStack) -> Run:
    """Returns the run of the job below `paths` in this process; see `check_job` and `assemble`."""
    return assemble(check_job(paths, stop, folder, resources), resources)


def _ignored(_: Event) -> None:
    """Takes the events of the ranks that report none."""


def _check(inputs: tuple[Input, ...], settings: Hyperparameters, stop: threading.Event, output: Path | None) -> Report:
    """Reads all files once, writes a report into `output` if given, and raises DataError for all problems."""
    report = check_inputs(inputs, settings.workers, stop.is_set)
    report = replace(report, image_scale=scale_note(report.splits, settings))
    if output:
        write_report(report, output)
    for suspicion in report.suspicions:
        LOGGER.warning(suspicion)
    report.raise_problems()
    if report.image_scale:
        LOGGER.info(report.image_scale)
    return report
