"""What the best model is worth on whole pictures, as it will be served: the measures of an epoch are those of crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from semseg.codecs.params import read_params
from semseg.data.pairs import Pair
from semseg.engines.protocols import Learner
from semseg.errors import Stopped
from semseg.inference.memory import divided
from semseg.inference.predictor import Predictor
from semseg.inference.scoring import score_pairs
from semseg.machine import free_memory
from semseg.reporting.events import Emit, Scored
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.extras import complete_without
from semseg.training.inputs import Input, whole_pictures


def score(
    learner: Learner,
    best: Path,
    inputs: tuple[Input, Input | None],
    settings: Hyperparameters,
    stop: Callable[[], bool],
    emit: Emit,
) -> None:
    """Give the learner the parameters of the file `best`, and emit what they are worth on the inputs that are listed.

    inputs: of validation and, if there is one, of test. The trained model is complete, whatever fails here; a warning
    then tells.
    """
    with complete_without("the measures on whole pictures"):
        if stop():
            raise Stopped
        learner.load(read_params(best), str(best))
        for one in inputs:
            if one and one.listing:
                LOGGER.info("Segmenting the %d whole pictures of %s.", len(one.listing.pairs), one.split.name)
                emit(_scored(learner, one, one.listing.pairs, settings, stop))
    if inputs[1] is None:
        LOGGER.info("Test data is not provided.")


def _scored(
    learner: Learner, one: Input, pairs: Sequence[Pair], settings: Hyperparameters, stop: Callable[[], bool]
) -> Scored:
    """The measures on one input, whose images are in memory one at a time; large ones are segmented in tiles."""
    pixels, _ = divided(free_memory(), learner.device_memory(), learner.bytes_per_pixel)
    predictor = Predictor(learner, settings.num_classes, pixels)
    batches = whole_pictures(pairs, one, settings, stop)
    (matrix,), images = score_pairs([predictor], ((batch.images[0], batch.labels[0]) for batch in batches))
    return Scored(
        one.split.name,
        images,
        pixel_accuracy=matrix.pixel_accuracy(),
        mean_iou=matrix.mean_iou(),
        mean_iou_present=matrix.mean_iou_present(),
        iou=matrix.iou(),
    )
