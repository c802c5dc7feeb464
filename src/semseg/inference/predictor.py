"""Segments an image with any backend: normalisation, tiles, class ids and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from semseg.engines.protocols import Backend
from semseg.errors import ArtifactError
from semseg.inference import tiling
from semseg.inference.scaling import UNSCALED, Scale
from semseg.inference.upsampling import upsampled_blocks
from semseg.types import IMAGENET_MEAN, IMAGENET_STD, Float32, Prediction, UInt8


class Predictor:
    """A network that segments images of any size from 1 x 1."""

    def __init__(
        self,
        backend: Backend,
        num_classes: int,
        max_tile_pixels: int,
        origin: str = "the model at hand",
        scale: Scale = UNSCALED,
    ) -> None:
        """max_tile_pixels: larger images are cut into tiles, see `tiling`; at least tiling.SMALLEST_BUDGET.

        origin: the model's name in errors. scale: the size at which the network gets images, unless `predict` is given
        another.
        """
        self._backend = backend
        self.origin = origin
        self.num_classes = num_classes
        self.max_tile_pixels = max_tile_pixels
        self.scale = scale

    @property
    def stride(self) -> int:
        """The network's stride: the side of the squares of pixels in which an image is computed."""
        return self._backend.stride

    def predict(self, image: UInt8, scale: Scale | None = None) -> Prediction:
        """RGB uint8 (H, W, 3) -> the prediction of each pixel. The network runs now, the rest when it is requested.

        The network gets the image at a size of its own, by default the predictor's `scale`; its logits are stretched to
        the image's. Raises ArtifactError when the network computes infinite values or NaN.
        """
        height, width, _ = image.shape
        resized = (scale or self.scale).resized(image)
        tiles = tiling.plan(resized.shape[0], resized.shape[1], self.max_tile_pixels, self.stride)
        if all(axis.tiles == 1 for axis in tiles):
            logits = self._logits(resized)
        else:
            logits = tiling.blended(resized, tiles, self.num_classes, self.stride, self._logits)
        return LogitsPrediction(logits, height, width)

    def _logits(self, image: UInt8) -> Float32:
        """RGB uint8 (H, W, 3), in one pass -> float32 (C, ceil(H/stride), ceil(W/stride))."""
        logits: Float32 = self._backend.logits(normalise(image))[0]
        if not np.isfinite(logits).all():  # 20 microseconds for 21 classes of 480 x 480
            raise ArtifactError(
                f"The network of {self.origin} computes values that are infinite or NaN.",
                "Its parameters are damaged, or its training diverged: train it again, or use another model.",
            )
        return logits


class LogitsPrediction:
    """A prediction kept as the network's logits, at a fraction of the image's size."""

    def __init__(self, logits: Float32, height: int, width: int) -> None:
        """logits: float32 (C, h, w); height, width: those of the image."""
        self._logits = logits
        self._size = height, width

    def labels(self) -> UInt8:
        """uint8 (H, W): the class with the highest logit, the first of equals. No softmax is computed."""
        labels = np.zeros(self._size, dtype=np.uint8)
        for rows, columns, scores in upsampled_blocks(self._logits, *self._size):
            best, winners = scores[0], labels[rows, columns]
            for label in range(1, len(scores)):  # three times as fast as argmax over the first axis
                np.copyto(winners, label, where=scores[label] > best)
                np.maximum(best, scores[label], out=best)
        return labels

    def probabilities(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """(C, H, W): in a floating dtype 0 to 1, with sum 1 over the classes; in uint8 0 to 255, in units of 1/255."""
        probabilities = np.empty((len(self._logits), *self._size), dtype)
        for rows, columns, scores in upsampled_blocks(self._logits, *self._size):
            scores -= scores.max(axis=0)
            np.exp(scores, out=scores)
            block = probabilities[:, rows, columns]
            if block.dtype == scores.dtype:
                np.divide(scores, scores.sum(axis=0), out=block)
            else:
                block[:] = _quantised(np.divide(scores, scores.sum(axis=0), out=scores), dtype)
        return probabilities

    def confidence(self, dtype: DTypeLike = np.float32) -> tuple[UInt8, NDArray[Any]]:
        """The labels, uint8 (H, W), and their probabilities, (H, W) in the form of `probabilities`."""
        labels, confidence = np.zeros(self._size, np.uint8), np.empty(self._size, dtype)
        for rows, columns, scores in upsampled_blocks(self._logits, *self._size):
            best, winners = scores.max(axis=0), labels[rows, columns]
            for label in reversed(range(len(scores))):
                np.copyto(winners, label, where=scores[label] == best)
            scores -= best
            np.exp(scores, out=scores)
            confidence[rows, columns] = _quantised(1 / scores.sum(axis=0), dtype)
        return labels, confidence


def normalise(image: UInt8) -> Float32:
    """RGB uint8 (H, W, 3) -> float32 (1, 3, H, W): (pixel / 255 - mean) / std of each channel."""
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    scale, shift = 1 / (255 * std), -mean / std
    normalised = np.empty((1, 3, *image.shape[:2]), dtype=np.float32)
    for channel in range(3):
        plane = normalised[0, channel]
        np.multiply(image[..., channel], scale[channel], out=plane, dtype=np.float32)
        plane += shift[channel]
    return normalised


def _quantised(probabilities: Float32, dtype: DTypeLike) -> NDArray[Any]:
    """Probabilities 0 to 1 in another dtype; as uint8 0 to 255, in units of 1/255.

    Adding and subtracting 0.5 rounds them to multiples of 2^-24, float16's smallest step: numpy takes ten times as long
    to convert numbers that it has to round to subnormal ones.
    """
    if np.dtype(dtype) == np.uint8:
        probabilities = np.rint(probabilities * np.float32(255))
    if np.dtype(dtype) == np.float16:
        probabilities = (probabilities + np.float32(0.5)) - np.float32(0.5)
    quantised: NDArray[Any] = probabilities.astype(dtype, copy=False)
    return quantised
