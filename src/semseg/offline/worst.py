"""The images on which a model does worst, kept in little memory."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from semseg.codecs.colors import parse_color
from semseg.codecs.masks import decode_mask
from semseg.codecs.overlays import overlay
from semseg.data.pairs import Pair
from semseg.data.samples import Sampler
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.html.embedded import WRONG
from semseg.types import IGNORED, UInt8

COUNT = 12
_LONGEST_SIDE = 800


@dataclass(frozen=True)
class WorstImage:
    """An image with its mIOU over the classes in its annotation, and the share of its pixels that are predicted right.

    mask: the prediction as a PNG file of class ids.
    """

    pair: Pair
    mean_iou: float
    pixel_accuracy: float
    mask: bytes = field(repr=False)

    def read(self, sampler: Sampler) -> tuple[UInt8, UInt8, UInt8]:
        """Reads the image, uint8 (H, W, 3), its labels and what was predicted, uint8 (H, W). Raises DataError."""
        image, labels, _ = sampler.whole(self.pair)
        return image, labels, decode_mask(self.mask)


class WorstImages:
    """Keeps the COUNT images with the lowest mIOU; an image without an annotated pixel has none."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WorstImage]] = []
        self._added = 0

    def add(self, pair: Pair, matrix: ConfusionMatrix, mask: bytes) -> None:
        """Adds an image. matrix: of its pixels; mask: its prediction as a PNG file."""
        mean_iou = matrix.mean_iou_present()
        if mean_iou is None:
            return
        self._added += 1
        found = WorstImage(pair, mean_iou, matrix.pixel_accuracy(), mask)
        add = heapq.heappush if len(self._heap) < COUNT else heapq.heappushpop
        add(self._heap, (-mean_iou, -self._added, found))

    def images(self) -> tuple[WorstImage, ...]:
        """The images, the worst first."""
        return tuple(found for _, _, found in sorted(self._heap, reverse=True))


def panels(image: UInt8, labels: UInt8, predicted: UInt8, colours: UInt8) -> UInt8:
    """The image, its annotation and its prediction in colours over it, and its wrong pixels, beside each other.

    image: uint8 (H, W, 3); labels, predicted: uint8 (H, W); colours: of the 256 labels, uint8 (256, 3). Returns uint8
    (h, 4 w, 3); of a large image, every second row and column, or fewer. Ignored pixels are left as they are.
    """
    step = -(-max(labels.shape) // _LONGEST_SIDE)
    image, labels, predicted = (part[::step, ::step] for part in (image, labels, predicted))
    colours = colours.copy()
    colours[IGNORED] = 0  # transparent
    wrong = np.where((labels != predicted) & (labels != IGNORED), 1, 0).astype(np.uint8)
    error_colours = np.zeros((256, 3), np.uint8)
    error_colours[1] = tuple(parse_color(WRONG).to_bytes(3))
    drawn = (
        image,
        overlay(image, labels, colours, 0.6),
        overlay(image, predicted, colours, 0.6),
        overlay(image, wrong, error_colours, 0.8),
    )
    return np.concatenate(drawn, axis=1)
