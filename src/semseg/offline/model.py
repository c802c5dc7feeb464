"""A model that is loaded once and segments images."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs import palettes
from semseg.codecs.image_like import ImageLike, pixels_of
from semseg.codecs.images import MAX_PIXELS, encode_image
from semseg.codecs.masks import encode_mask
from semseg.codecs.npy import encode_npy
from semseg.codecs.overlays import overlay
from semseg.codecs.recordio import Buffer
from semseg.codecs.summary import encode_summary
from semseg.data.report import percent
from semseg.engines.protocols import AUTO
from semseg.errors import TooLargeError, UserError, first_few, one_line, os_reason
from semseg.files import replacing
from semseg.inference.load import LoadedModel, load_predictor
from semseg.inference.memory import request_bytes
from semseg.inference.scaling import MODEL, Scale
from semseg.offline.located import located
from semseg.types import Float32, Prediction, UInt8

PALETTES = (palettes.MODEL, *palettes.NAMES)

_LONGEST_NAME, _LONGEST_PLACE = 24, 60
"""The characters of a class's name and of a model's place that a `repr` shows."""

_LONGEST_SIDE_SHOWN = 1000


class Model:
    """A network with its classes. Its predictions are those of the server. Threads may share it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._computing = threading.Lock()  # engines compute one image at a time, on all cores
        self._predictor = loaded.predictor
        self.description: ModelDescription = loaded.description
        self.engine = loaded.engine
        """The name of the engine that computes it."""

        self.precision = loaded.precision
        """The number format that it computes in: f32, bf16 or int8."""

        self.memory = loaded.memory
        """The bytes that are left for images and results."""

    def __repr__(self) -> str:
        network = f"{self.description.network.name} on {self.description.backbone.name}"
        names = first_few([_clipped(name) for name in self.class_names])
        place = self._predictor.origin
        place = place if len(place) <= _LONGEST_PLACE else f"...{place[3 - _LONGEST_PLACE :]}"
        return f"Model({place!r}, {network}, {self.num_classes} classes: {names})"

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

    def image_bytes(
        self,
        height: int,
        width: int,
        made: int,
        scale: Scale | None = None,
        advice: str = "Cut the image into parts",
    ) -> int:
        """The bytes that an image of this size takes, from decoding on, besides the network's computation.

        made: the bytes per pixel of everything that is made from the logits. scale: in place of the model's own.
        advice: how the hint begins. Raises TooLargeError if they are more than are free.
        """
        needed = request_bytes(self.num_classes, height, width, self.stride, made, scale or self.scale)
        if needed > self.memory:
            raise TooLargeError(
                f"{width} x {height} pixels take {needed >> 20:,} MB; {self.memory >> 20:,} MB are free.",
                f"{advice}, or use a machine with more memory.",
            )
        return needed

    def segment(self, pixels: UInt8, scale: Scale | None = None) -> Segmentation:
        """Segments RGB pixels, uint8 (H, W, 3). scale: in place of the model's own.

        Raises ArtifactError if the network computes infinite values or NaN.
        """
        with self._computing:
            prediction = self._predictor.predict(pixels, scale)
        return Segmentation(pixels, prediction, self)

    @overload
    def predict(self, images: ImageLike) -> Segmentation: ...  # type: ignore[overload-overlap]  # a text is an image

    @overload
    def predict(self, images: Sequence[ImageLike]) -> list[Segmentation]: ...

    def predict(self, images: ImageLike | Sequence[ImageLike]) -> Segmentation | list[Segmentation]:
        """Segments an image, or each of a list or tuple: paths, bytes of files, Pillow images or arrays.

        Files may be JPEG, PNG, TIFF, WebP or BMP. Pixels count as stored: the orientation is ignored, as by the server.
        Raises ImageError for what is no image or holds several, and ArtifactError if the network computes infinite
        values or NaN.
        """
        if isinstance(images, list | tuple):
            return [self.predict(image) for image in images]
        return self.segment(pixels_of(images, MAX_PIXELS))  # type: ignore[arg-type]


class Segmentation:
    """An image and what a model predicts for it. Everything is computed when it is requested."""

    def __init__(self, image: UInt8, prediction: Prediction, model: Model) -> None:
        """image: RGB uint8 (H, W, 3)."""
        self.image = image
        self.model = model
        self._prediction = prediction

    def __repr__(self) -> str:
        """The size and the most frequent classes."""
        (height, width), counts = self.mask.shape, self.pixels_by_class()
        present = sorted(np.flatnonzero(counts), key=lambda label: -counts[label])
        names = self.model.class_names
        shares = [f"{_clipped(names[label])} {percent(counts[label] / self.mask.size)}" for label in present]
        return f"Segmentation({width} x {height}, {first_few(shares)})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay; of a large image every second row and column, or fewer."""
        step = -(-max(self.mask.shape) // _LONGEST_SIDE_SHOWN)
        return encode_image(overlay(self.image[::step, ::step], self.mask[::step, ::step], self.model.palette()))

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file, whole or not at all: the mask as .png, the probabilities as .npy, a summary as .json.

        Raises UserError for another suffix, or if the file cannot be written.
        """
        place = Path(path)
        encode = {".png": self.as_png, ".npy": self.as_npy, ".json": self.as_json}.get(place.suffix.lower())
        if encode is None:
            raise UserError(
                f"{one_line(str(path))} ends with none of .png, .npy and .json.", "Give one of these names."
            )
        try:
            with replacing(place) as temporary, temporary.open("wb") as file:
                file.writelines(encode())
        except OSError as error:
            raise UserError(f"The result cannot be written: {os_reason(error)}.") from error

    def as_png(self, palette: str | None = None) -> Sequence[Buffer]:
        """The mask as a PNG file of class ids, in the colours of one of PALETTES if given."""
        return [encode_mask(self.mask, self.model.palette(palette) if palette else None)]

    def as_npy(self) -> Sequence[Buffer]:
        """The probabilities as NumPy's file: float32 (C, H, W)."""
        return encode_npy(self.probabilities)

    def as_json(self) -> Sequence[Buffer]:
        """The pixels, share and mean confidence of each class as the server's JSON."""
        classes = self.model.description.classes
        names = classes.titles if classes.named else classes.names
        return encode_summary(self.mask, self.confidence, names, False, palettes.color_names(classes))

    def overlay(self, colours: UInt8 | None = None, share: float = 0.5) -> UInt8:
        """The image with its classes drawn over it: uint8 (H, W, 3).

        colours: of the 256 labels, uint8 (256, 3), by default the model's; share: their part of a pixel, 0 to 1.
        """
        return overlay(self.image, self.mask, self.model.palette() if colours is None else colours, share)


def _clipped(name: str) -> str:
    """The name of a class on one line, of limited length."""
    shown = one_line(name)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 3]}..."


def load(place: str, engine: str = AUTO, precision: str = AUTO, device: str = AUTO, scale: str = MODEL) -> Model:
    """Loads a model from a place that `located` finds, which takes some seconds.

    engine: one of `choose.SERVING`; precision: one of `protocols.PRECISIONS`; device: one of `choose.DEVICES`; scale:
    as `scaling.scale_of` reads it. Raises what `located` and `load_predictor` raise.
    """
    with located(place) as directory:
        loaded = load_predictor(directory, engine, precision, scale=scale, place=device)
    loaded.predictor.origin = one_line(place)  # the directory may have been a temporary one
    return Model(loaded)
