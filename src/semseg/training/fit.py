"""The second part of the recipe: trains, and keeps the best model and the checkpoints."""

from __future__ import annotations

import threading

from semseg.artifact import model_dir
from semseg.errors import Stopped
from semseg.training.inputs import training_data, validation_data
from semseg.training.loop import Fit, TrainingData, ValidationData
from semseg.training.loss_watch import require_finite
from semseg.training.parts import early_stopping
from semseg.training.prepare import Run
from semseg.training.progress import Progress


def fit(run: Run, stop: threading.Event) -> None:
    """Trains a run to its end, or until `stop` is set, and leaves the best model in its artifact.

    Raises Stopped if it was stopped before there is a model to save, and DivergedError.
    """
    job = run.job
    training = training_data(job.given.train, job.settings, job.samples, stop.is_set)
    validation = validation_data(job.given.validation, job.settings, stop.is_set)
    loop_of(run, training, validation).run(stop, run.progress)
    if stop.is_set() and run.earlier_stays and not run.artifact.begun:
        raise Stopped(f"Stopped before the first validation: the earlier model stays in {job.paths.model}.")


def loop_of(run: Run, training: TrainingData, validation: ValidationData) -> Fit:
    """Returns the loop as the settings say, whose best model goes to the artifact and whose progress to checkpoints.

    Where no checkpoints are kept, the parameters are still required to be numbers whenever one would be saved.
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
