"""The last stage of a training job: completes the artifact and evaluates the best model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from semseg.artifact import model_dir
from semseg.engines.protocols import Learner
from semseg.reporting.events import Emit, Stopping
from semseg.sagemaker import log_lines
from semseg.sagemaker.log_lines import FOR_PARSERS, LOGGER
from semseg.training.best_effort import best_effort
from semseg.training.int8 import quantize_model
from semseg.training.job import Job
from semseg.training.prepare import Run
from semseg.training.scoring import score


def finish(run: Run, stop: threading.Event) -> None:
    """Saves the last parameters, exports the best ones, and emits their scores on whole images.

    A failure after the parameters are saved is logged as a warning; once `stop` is set, slow work is skipped.
    Raises DivergedError and DiskFullError.
    """
    save_last(run, stop)
    complete(run.job, lambda: run.learner, run.emit, stop)


def save_last(run: Run, stop: threading.Event) -> None:
    """Saves the last parameters. Raises DivergedError and DiskFullError."""
    if stop.is_set():
        LOGGER.warning("Stopping on request: saving the current model.")
    LOGGER.warning(
        "wait_for_all_workers will not sync workers since the kv store is not running distributed", extra=FOR_PARSERS
    )
    run.artifact.save_parameters(model_dir.LAST, run.learner.parameters())


def complete(job: Job, learner: Callable[[], Learner], emit: Emit, stop: threading.Event) -> None:
    """Exports the best parameters, and emits their scores on whole images; logs a warning for what fails.

    learner: returns one of the job's networks, whose parameters the scoring replaces.
    """
    settings, inputs, directory = job.settings, job.inputs, job.paths.model
    if stop.is_set():
        emit(Stopping())
    if settings.export_onnx:
        export_onnx(directory)
    if settings.quantize:
        quantize_model(directory, (inputs.train, inputs.validation), settings, stop.is_set, emit)
    score(learner, directory / model_dir.BEST, (inputs.validation, inputs.test), settings, stop.is_set, emit)


def export_onnx(directory: Path) -> None:
    """Writes model.onnx from the parameters that would be served; logs a warning if that fails.

    The model is complete without it: serving then converts the parameters at startup.
    """
    from semseg.exporting.onnx_model import write_onnx  # imported late: slow, and needed only here

    with best_effort(model_dir.ONNX):
        write_onnx(model_dir.describe(directory), directory / model_dir.ONNX)


def print_totals(job: Job, started: float, prepared: float) -> None:
    """Prints the built-in algorithm's last line: the number of epochs, the setup time and the total time.

    started, prepared: when the job and when training started, in seconds since 1970.
    """
    ended = time.time()
    values = {
        "epochs": float(job.settings.epochs),
        "setuptime": 1000 * (prepared - started),
        "totaltime": 1000 * (ended - started),
    }
    print(log_lines.metrics(started, ended, {"Host": job.hosts.current, "Operation": "training"}, values), flush=True)
