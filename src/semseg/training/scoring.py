"""Evaluates the best model on whole images, as it will be served; epochs are validated on crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from semseg.codecs.params import read_params
from semseg.data.pairs import Pair
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.inference.memory import divided
from semseg.inference.predictor import Predictor
from semseg.inference.scaling import parse_scale
from semseg.inference.scoring import score_pairs
from semseg.machine import free_memory
from semseg.reporting.events import Emit, Scored
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.training.best_effort import best_effort
from semseg.training.inputs import Input, whole_images


def score(
    learner: Callable[[], Learner],
    best: Path,
    inputs: tuple[Input, Input | None],
    settings: Hyperparameters,
    stop: Callable[[], bool],
    emit: Emit,
) -> None:
    """Loads the parameters in the file `best`, and emits their scores on the inputs with a listing.

    learner: returns the network that is to load them.

    inputs: validation and, if the job has it, test. A failure is logged as a warning, as the model is complete.
    """
    with best_effort("the scores on whole images"):
        if stop():
            raise Stopped
        scored = learner()
        scored.load(read_params(best), str(best))
        for one in inputs:
            if one and one.listing:
                LOGGER.info(
                    "Segmenting the %d whole images of %s.", len(one.listing.pairs), one.split.name, extra=FOR_PEOPLE
                )
                emit(_scored(scored, one, one.listing.pairs, settings, stop))
    if inputs[1] is None:
        LOGGER.info("Test data is not provided.")


def _scored(
    learner: Learner, one: Input, pairs: Sequence[Pair], settings: Hyperparameters, stop: Callable[[], bool]
) -> Scored:
    """Scores one input with one image in memory at a time; large images are segmented in tiles."""
    pixels, _ = divided(free_memory(), learner.device_memory(), learner.bytes_per_pixel)
    scale = parse_scale(settings.serving_scale, settings.base_size)
    predictor = Predictor(learner, settings.num_classes, pixels, scale=scale)
    batches = whole_images(pairs, one, settings, stop)
    (matrix,), images = score_pairs([predictor], ((batch.images[0], batch.labels[0]) for batch in batches))
    return Scored(
        one.split.name,
        images,
        pixel_accuracy=matrix.pixel_accuracy(),
        mean_iou=matrix.mean_iou(),
        mean_iou_present=matrix.mean_iou_present(),
        iou=matrix.iou(),
    )
