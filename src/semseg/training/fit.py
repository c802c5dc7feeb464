"""The second stage of a training job: trains, and saves the best model and checkpoints."""

from __future__ import annotations

import threading

from semseg.artifact import model_dir
from semseg.errors import Stopped
from semseg.training.components import early_stopping
from semseg.training.inputs import training_data, validation_data
from semseg.training.loop import Fit, TrainingData, ValidationData
from semseg.training.loss_watch import require_finite
from semseg.training.prepare import Run
from semseg.training.progress import Progress


def fit(run: Run, stop: threading.Event) -> None:
    """Trains until all epochs are done or `stop` is set, and saves the best model in the artifact.

    Raises DivergedError, and Stopped if stopped before there is a model to save.
    """
    job = run.job
    training = training_data(job.inputs.train, job.settings, job.samples, stop.is_set)
    validation = validation_data(job.inputs.validation, job.settings, stop.is_set)
    build_loop(run, training, validation).run(stop, run.progress)
    if stop.is_set() and run.keep_earlier and not run.artifact.has_model:
        raise Stopped(f"Stopped before the first validation: the earlier model is kept in {job.paths.model}.")


def build_loop(run: Run, training: TrainingData, validation: ValidationData) -> Fit:
    """Returns the training loop, which saves its best model in the artifact and its progress in checkpoints.

    Without checkpoints, the parameters are still checked to be finite whenever one would be saved.
    """
    settings, checkpoints, folder = run.job.settings, run.job.checkpoints, run.job.folder

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
        keep_best=keep_best,
        emit=run.emit,
        checkpoint=checkpoint,
        checkpoint_seconds=60 * settings.checkpoint_minutes,
    )
