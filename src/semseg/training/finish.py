"""The last part of the recipe: completes the artifact, and measures what the best model is worth."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from semseg.artifact import model_dir
from semseg.sagemaker import log_lines
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.extras import complete_without
from semseg.training.int8 import quantize_model
from semseg.training.job import Job
from semseg.training.prepare import Run
from semseg.training.scoring import score


def finish(run: Run, stop: threading.Event) -> None:
    """Saves the last parameters, the best ones in other forms too, and emits their measures on whole images.

    Of what fails after the parameters are saved a warning is logged; when `stop` is set, what takes long is left out.
    Raises DivergedError and DiskFullError.
    """
    settings, given, directory = run.job.settings, run.job.given, run.job.paths.model
    if stop.is_set():
        LOGGER.warning("Stopping as told: saving the current model.")
    LOGGER.warning("wait_for_all_workers will not sync workers since the kv store is not running distributed")
    run.artifact.save_parameters(model_dir.LAST, run.learner.parameters())
    if settings.export_onnx:
        export_onnx(directory)
    if settings.quantize:
        quantize_model(directory, (given.train, given.validation), settings, stop.is_set, run.emit)
    best, measured = run.artifact.path(model_dir.BEST), (given.validation, given.test)
    score(run.learner, best, measured, settings, stop.is_set, run.emit)


def export_onnx(directory: Path) -> None:
    """Writes model.onnx of the parameters that would be served; should that fail, a warning says so.

    The model is complete without it: the parameters are converted when it is served.
    """
    from semseg.exporting.onnx_model import write_onnx  # here: what it needs is only for this

    with complete_without(model_dir.ONNX):
        write_onnx(model_dir.describe(directory), directory / model_dir.ONNX)


def print_totals(job: Job, begun: float, prepared: float) -> None:
    """Prints the built-in algorithm's last line: the epochs, and how long all took, and what came before training.

    begun, prepared: when the job began and training did, in seconds since 1970.
    """
    ended = time.time()
    values = {
        "epochs": float(job.settings.epochs),
        "setuptime": 1000 * (prepared - begun),
        "totaltime": 1000 * (ended - begun),
    }
    print(log_lines.metrics(begun, ended, {"Host": job.hosts.current, "Operation": "training"}, values), flush=True)
