"""A model that is loaded once and segments images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.artifact.locate import model_directory
from semseg.artifact.model_dir import ModelDescription
from semseg.codecs import palettes
from semseg.codecs.overlays import overlay
from semseg.data.s3 import ObjectStore
from semseg.engines.protocols import AUTO
from semseg.inference.load import LoadedModel, load_predictor
from semseg.inference.scaling import MODEL, Scale
from semseg.types import Float32, Prediction, UInt8

PALETTES = (palettes.MODEL, *palettes.NAMES)


class Model:
    """A network with its classes. Its predictions are those of the server."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._predictor = loaded.predictor
        self.description: ModelDescription = loaded.description
        self.engine = loaded.engine
        """The name of the engine that computes it."""

        self.memory = loaded.memory
        """The bytes that are left for images and results."""

    @property
    def stride(self) -> int:
        """The network's stride: the side of the squares of pixels in which an image is computed."""
        return self._predictor.stride

    @property
    def scale(self) -> Scale:
        """The size at which the network gets images."""
        return self._predictor.scale

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.description.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """What to call each class: its name, or `class 3`."""
        return self.description.classes.titles

    def palette(self, name: str = palettes.MODEL) -> UInt8:
        """A colour for each of the 256 labels, uint8 (256, 3). name: one of PALETTES."""
        return palettes.chosen_palette(name, self.description.classes)

    def segment(self, pixels: UInt8, scale: Scale | None = None) -> Segmentation:
        """Segments RGB pixels, uint8 (H, W, 3). scale: in place of the model's own.

        Raises ArtifactError if the network computes infinite values or NaN.
        """
        return Segmentation(pixels, self._predictor.predict(pixels, scale), self)


class Segmentation:
    """An image and what a model predicts for it. Everything is computed when it is requested."""

    def __init__(self, image: UInt8, prediction: Prediction, model: Model) -> None:
        """image: RGB uint8 (H, W, 3)."""
        self.image = image
        self.model = model
        self._prediction = prediction

    @cached_property
    def mask(self) -> UInt8:
        """The most probable class of each pixel: uint8 (H, W)."""
        return self._prediction.labels()

    @property
    def probabilities(self) -> Float32:
        """The probability of each class in each pixel: float32 (C, H, W), 0 to 1. Computed anew each time."""
        probabilities: Float32 = self._prediction.probabilities()
        return probabilities

    @property
    def confidence(self) -> Float32:
        """The probability of each pixel's class: float32 (H, W), 0 to 1. Computed anew each time."""
        confidence: Float32 = self._prediction.confidence()[1]
        return confidence

    def pixels_by_class(self) -> NDArray[np.int64]:
        """The number of pixels of each class: int64 (C,)."""
        return np.array(Image.fromarray(self.mask).histogram()[: self.model.num_classes])

    def overlay(self, colours: UInt8 | None = None, share: float = 0.5) -> UInt8:
        """The image with its classes drawn over it: uint8 (H, W, 3).

        colours: of the 256 labels, uint8 (256, 3), by default the model's; share: their part of a pixel, 0 to 1.
        """
        return overlay(self.image, self.mask, self.model.palette() if colours is None else colours, share)


@contextmanager
def located(place: str) -> Iterator[Path]:
    """Yields the model directory that a text names: a folder, a job's folder, a model.tar.gz, or one of them in S3.

    What is downloaded or unpacked is removed at the end. Raises ArtifactError, and DataError if S3 refuses.
    """
    if not place.startswith("s3://"):
        with model_directory(Path(place)) as directory:
            yield directory
        return
    with TemporaryDirectory(prefix="semseg-") as scratch:
        with ObjectStore(caching=False) as store:
            store.download(place, Path(scratch))
        archive = Path(scratch) / place.rpartition("/")[2]
        with model_directory(archive if archive.is_file() else Path(scratch)) as directory:
            yield directory


def load(place: str, engine: str = AUTO, precision: str = AUTO, device: str = AUTO, scale: str = MODEL) -> Model:
    """Loads a model from a place that `located` finds, which takes some seconds.

    engine: one of `choose.SERVING`; precision: one of `protocols.PRECISIONS`; device: one of `choose.DEVICES`; scale:
    as `scaling.scale_of` reads it. Raises what `located` and `load_predictor` raise.
    """
    with located(place) as directory:
        return Model(load_predictor(directory, engine, precision, scale=scale, place=device))
