"""A training job from the configuration to the artifact: prepare, fit, finish."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.errors import ChannelError
from semseg.files import scratch_folder
from semseg.sagemaker.channels import read_channels
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.absence import explained
from semseg.training.finish import finish, print_totals
from semseg.training.fit import fit
from semseg.training.inputs import check_inputs, scale_note
from semseg.training.job import open_channels, read_hyperparameters
from semseg.training.job_folder import JobFolder
from semseg.training.launch import train_in_ranks
from semseg.training.prepare import assemble, check_job
from semseg.training.sizing import log_division

MMAP_THRESHOLD = 1 << 20
"""Blocks of at least this many bytes are returned to the system when freed during training (`keep_memory_flat`). With
4 MiB the process grows a little each epoch; with 256 KiB loading takes half as much time again [both measured]."""


def train(paths: Paths, stop: threading.Event, folder: JobFolder | None = None) -> None:
    """Runs the job below `paths`; writes its artifact to `paths.model` and its metrics to `paths.output_data`.

    When `stop` is set, it saves the current parameters and returns within a step, or raises Stopped if training has not
    started. In the folder of a job outside SageMaker, an earlier training's model and results stay until the first
    validation; a job stopped before that raises Stopped. Raises UserError for whatever the user can fix.
    """
    started = time.time()
    with ExitStack() as resources:
        with explained(paths, stop):
            checked = check_job(paths, stop, folder, resources)
            log_division(checked.job)
        job, report = checked.job, checked.report
        if job.ranks.size > 1:
            checked = replace(checked, checkpoint=None)  # which rank 0 reads again
            prepared = time.time()
            train_in_ranks(checked, stop, resources, MMAP_THRESHOLD)
        else:
            run = assemble(checked, resources)
            del checked  # and with it the checkpoint
            prepared = time.time()
            fit(run, stop)
            finish(run, stop)
    if report and report.image_scale:
        LOGGER.info(report.image_scale, extra=FOR_PEOPLE)
    if job.ranks.saves:
        print_totals(job, started, prepared)


def check(paths: Paths) -> Report:
    """Reads and reports on all data of the job below `paths`. Raises UserError for other errors in the job."""
    settings = read_hyperparameters(paths)
    channels = read_channels(paths)
    for split in (channels.train, channels.validation):
        if split.piped:
            raise ChannelError(
                f"The channel {split.name} is in Pipe mode: only training can read it.",
                "To check its data, give the augmented manifest in File mode.",
            )
    with ObjectStore() as store, scratch_folder() as scratch:
        inputs = open_channels(channels, settings, store, scratch)
        report = check_inputs(inputs.splits, settings.workers)
        return replace(report, image_scale=scale_note(report.splits, settings))
