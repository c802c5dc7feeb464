"""What the best model is worth on whole pictures, as it will be served: the measures of an epoch are those of crops."""

from __future__ import annotations

from collections.abc import Callable

from semseg.engines.machine import free_memory
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.inference.memory import BYTES_PER_PIXEL, tile_pixels
from semseg.inference.predictor import Predictor
from semseg.reporting.events import Scored
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.training.inputs import Input, whole_pictures
from semseg.training.learner import Learner


def score(learner: Learner, one: Input, settings: Hyperparameters, stop: Callable[[], bool]) -> Scored:
    """Let the learner segment the pictures of an input that is listed, one at a time, large ones in tiles.

    Raises Stopped as soon as `stop()` is true.
    """
    pixels = tile_pixels(free_memory(), BYTES_PER_PIXEL["mxnet"][settings.algorithm])
    predictor = Predictor(learner, settings.num_classes, pixels)
    matrix, pictures = ConfusionMatrix(settings.num_classes), 0
    pairs = one.listing.pairs if one.listing else ()
    for batch in whole_pictures(pairs, one, settings, stop):
        matrix.update(batch.labels[0], predictor.predict(batch.images[0]).labels())
        pictures += 1
    return Scored(
        one.split.name,
        pictures,
        pixel_accuracy=matrix.pixel_accuracy(),
        mean_iou=matrix.mean_iou(),
        mean_iou_present=matrix.mean_iou_present(),
        iou=matrix.iou(),
    )
