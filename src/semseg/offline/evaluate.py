"""`semseg evaluate`: measures a model on images whose annotations are known, whole, as they are served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from semseg.codecs.masks import encode_mask
from semseg.data.decoding import open_image
from semseg.data.files import AHEAD_BYTES, described
from semseg.data.labelled_folder import LabelledFolder
from semseg.data.pairs import Pair
from semseg.data.threads import READERS, map_in_order
from semseg.errors import UserError, count_of
from semseg.evaluation.boundary import BoundaryF1, boundary_f1
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.evaluation.measures import Measures, measures
from semseg.inference.scaling import Scale
from semseg.machine import usable_cores
from semseg.offline import pipeline
from semseg.offline.model import Model
from semseg.offline.worst import WorstImage, WorstImages
from semseg.types import UInt8

_MEASURING = 32
"""Bytes per pixel of labels, prediction and what measures of them take, of which most are taken in blocks of rows."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model.

    images: the number of those that were measured. boundary: the boundary F1 of each class, None for one without a
    boundary or that is not annotated, and boundary_mean that of the others, None without any. failures: a line for each
    image that could not be measured. seconds: that the network took for an image, on average. worst: the images with
    the lowest mIOU.
    """

    images: int
    matrix: ConfusionMatrix
    measures: Measures
    boundary: tuple[float | None, ...]
    boundary_mean: float | None
    failures: tuple[str, ...]
    seconds: float
    worst: tuple[WorstImage, ...]

    def __repr__(self) -> str:
        scores = f"mIOU {self.measures.mean_all.iou:.4f}, pixel accuracy {self.measures.pixel_accuracy:.4f}"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"Evaluation({count_of(self.images, 'image')}, {scores}{failed})"


def evaluate(model: Model, folder: LabelledFolder, scale: Scale, done: Callable[[], object]) -> Evaluation:
    """Measures a model on the images of a folder, at a scale. done: called after each image.

    Raises UserError if not one image can be measured or not one pixel is annotated, and ArtifactError if the network
    computes infinite values or NaN.
    """
    matrix, boundary, worst = ConfusionMatrix(model.num_classes), BoundaryF1(model.num_classes), WorstImages()
    failures: list[str] = []
    seconds = 0.0
    for pair, result in _results(model, folder, scale):
        if isinstance(result, UserError):
            failures.append(described(pair.image, result))
        else:
            matrix.counts += result.matrix.counts
            boundary.add(result.boundary)
            seconds += result.seconds
            worst.add(pair, result.matrix, result.mask)
        done()
    images = len(folder.pairs) - len(failures)
    if not images:
        raise UserError(f"Not one image can be evaluated. {failures[0]}")
    found = measures(matrix)
    if not found.pixels:
        raise UserError(
            f"Not one pixel is annotated with a class: read by {folder.reading}, all are ignored.",
            "Give a label map that fits the annotations.",
        )
    annotated = [one.support > 0 for one in found.classes]
    contours, mean = tuple(boundary.classes(annotated)), boundary.mean(annotated)
    return Evaluation(images, matrix, found, contours, mean, tuple(failures), seconds / images, worst.images())


@dataclass(frozen=True)
class _Opened:
    """A pair whose files are in memory, or why they cannot be read; needed: the bytes until it is measured."""

    pair: Pair
    error: UserError | None = None
    needed: int = 0


@dataclass(frozen=True)
class _Segmented:
    """The labels of an image and what was predicted, uint8 (H, W), and the seconds that the network took."""

    labels: UInt8
    predicted: Callable[[], UInt8]
    seconds: float


@dataclass(frozen=True)
class _Measured:
    """The measures of one image; mask: what was predicted, as a PNG file."""

    matrix: ConfusionMatrix
    boundary: list[float | None]
    mask: bytes
    seconds: float


def _results(model: Model, folder: LabelledFolder, scale: Scale) -> Iterator[tuple[Pair, _Measured | UserError]]:
    for_files = min(AHEAD_BYTES, model.memory // 4)
    opening = partial(_open, model, scale)
    opened = map_in_order(opening, folder.pairs, READERS, 2 * READERS, lambda one: one.pair.loaded_bytes(), for_files)
    stages = pipeline.Stages(
        partial(_decode, folder), partial(_segment, model, scale), partial(_measure, model), lambda one: one.needed
    )
    run = pipeline.run(stages, opened, model.memory - for_files, usable_cores())
    with closing(opened), closing(run):
        for number, (_, result) in enumerate(run):
            yield folder.pairs[number], result


def _open(model: Model, scale: Scale, pair: Pair) -> _Opened:
    loaded = pair.loaded()
    try:
        image = open_image(loaded)
        needed = loaded.loaded_bytes() + model.image_bytes(image.height, image.width, _MEASURING, scale)
    except UserError as error:
        return _Opened(loaded, error)
    return _Opened(loaded, None, needed)


def _decode(folder: LabelledFolder, opened: _Opened) -> tuple[UInt8, UInt8]:
    if opened.error:
        raise opened.error
    image, labels, _ = folder.sampler.whole(opened.pair)
    return image, labels


def _segment(model: Model, scale: Scale, pair: tuple[UInt8, UInt8]) -> _Segmented:
    image, labels = pair
    begin = time.perf_counter()
    found = model.segment(image, scale)
    return _Segmented(labels, lambda: found.mask, time.perf_counter() - begin)


def _measure(model: Model, found: _Segmented) -> _Measured:
    predicted, matrix = found.predicted(), ConfusionMatrix(model.num_classes)
    matrix.update(found.labels, predicted)
    boundary = boundary_f1(found.labels, predicted, model.num_classes)
    return _Measured(matrix, boundary, encode_mask(predicted), found.seconds)
