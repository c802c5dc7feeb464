"""The second stage of a training job: trains, and saves the best model and checkpoints."""

from __future__ import annotations

import math
import threading

from semseg.artifact import model_dir
from semseg.errors import DeviceMemoryError, Stopped
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.components import early_stopping
from semseg.training.feed import Feed
from semseg.training.inputs import Part, training_data, validation_data
from semseg.training.loop import Fit, TrainingData, ValidationData
from semseg.training.loss_watch import require_finite
from semseg.training.prepare import Run
from semseg.training.progress import Progress

_SMALLEST_CROP = 24
"""The smallest crop_size is 17, which is rounded up to a multiple of 8."""


def fit(run: Run, stop: threading.Event, feed: Feed | None = None) -> Progress:
    """Trains until all epochs are done or `stop` is set, and saves the best model in the artifact.

    Returns the last progress. feed: between the ranks of this host, for data from pipes.

    Raises DivergedError, DeviceMemoryError with a batch and a crop to try, and Stopped if stopped before there is a
    model to save.
    """
    job, ranks = run.job, run.job.ranks
    part = Part(ranks, run.group.rank - ranks.first, job.pairs)
    training = training_data(job.inputs.train, job.settings, job.samples, stop.is_set, part, feed)
    validation = validation_data(job.inputs.validation, job.settings, stop.is_set, part, feed)
    try:
        progress = build_loop(run, training, validation).run(stop, run.progress)
    except DeviceMemoryError as error:
        raise DeviceMemoryError(
            error.message, f"{error.hint} {_half_of(job.settings, job.devices)}".rstrip()
        ) from error
    if stop.is_set() and run.keep_earlier and not run.artifact.has_model:
        raise Stopped(f"Stopped before the first validation: the earlier model is kept in {job.paths.model}.")
    return progress


def build_loop(run: Run, training: TrainingData, validation: ValidationData) -> Fit:
    """Returns the training loop, which saves its best model in the artifact and its progress in checkpoints.

    Without checkpoints, the parameters are still checked to be finite whenever one would be saved. Of the ranks of a
    group only rank 0 checks and saves.
    """
    settings, checkpoints, folder = run.job.settings, run.job.checkpoints, run.job.folder
    saves = run.group.rank == 0

    def keep_best() -> None:
        run.artifact.save_parameters(model_dir.BEST, run.learner.parameters())
        if folder:
            folder.drop_replaced()

    def checkpoint(progress: Progress) -> None:
        state = run.learner.state() if checkpoints else run.learner.parameters()
        require_finite(state)
        if checkpoints:
            checkpoints.save(progress, state, run.artifact.path(model_dir.BEST))

    return Fit(
        learner=run.learner,
        training=training,
        validation=validation,
        schedule=run.schedule,
        epochs=settings.epochs,
        num_classes=settings.num_classes,
        seed=settings.seed,
        early_stopping=early_stopping(settings),
        keep_best=keep_best if saves else _nothing,
        emit=run.emit,
        checkpoint=checkpoint if saves else _nothing,
        checkpoint_seconds=60 * settings.checkpoint_minutes,
        group=run.group,
    )


def _nothing(*_: object) -> None:
    """What the other ranks save."""


def _half_of(settings: Hyperparameters, devices: int) -> str:
    """Returns what leaves half of a device's pixels, which take most of a training's memory: a sentence, or nothing.

    The largest part of a batch of n images on d devices has ceil(n / d).
    """
    largest, crop = -(-settings.mini_batch_size // devices), int(settings.crop_size / math.sqrt(2)) // 8 * 8
    batch = largest // 2 * devices
    smaller = [f"mini_batch_size {batch}"] if batch else []
    smaller += [f"crop_size {crop}"] if crop >= _SMALLEST_CROP else []
    several = f" on {devices} devices" if devices > 1 else ""
    now = f"mini_batch_size is {settings.mini_batch_size}{several} and crop_size {settings.crop_size}"
    return f"Now {now}: half of a batch's pixels are left with {' or '.join(smaller)}." if smaller else ""
