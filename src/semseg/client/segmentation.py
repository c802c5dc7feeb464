"""What a client gives for an image: mask, probabilities, confidence, colours and overlay."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from semseg.client.answers import Answer
from semseg.client.sources import Source, load
from semseg.codecs import palettes
from semseg.codecs.image_like import ImageLike
from semseg.codecs.media_types import JSON, NPY, PNG, RECORDIO_PROTOBUF
from semseg.codecs.overlays import overlay
from semseg.errors import UserError
from semseg.types import Float32, UInt8


class Segmentation:
    """The prediction for one image, in the image's own size."""

    def __init__(self, source: Source | None, answer: Answer) -> None:
        """source: the image, None if it is not known; answer: the response for it."""
        self._source = source
        self._answer = answer

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self._answer.size

    @cached_property
    def mask(self) -> UInt8:
        """The class of each pixel: uint8 (H, W). Raises UserError if the response was JSON without regions."""
        if self._answer.mask is not None:
            return self._answer.mask
        if self._answer.probabilities is not None:
            classes: UInt8 = self._answer.probabilities.argmax(axis=0).astype(np.uint8)
            return classes
        raise UserError("The response has no mask.", f"Ask for {PNG}, or for {JSON}; rle=true.")

    @property
    def probabilities(self) -> Float32:
        """The probability of each class: float32 (C, H, W), maybe read-only. Raises UserError if not asked for."""
        return self._required(self._answer.probabilities, "probabilities", RECORDIO_PROTOBUF)

    @cached_property
    def confidence(self) -> Float32:
        """The probability of each pixel's class: float32 (H, W). Raises UserError if not asked for."""
        if self._answer.confidence is None and self._answer.probabilities is not None:
            best: Float32 = self._answer.probabilities.max(axis=0)
            return best
        return self._required(self._answer.confidence, "confidence", f"{NPY}; values=confidence")

    @property
    def summary(self) -> Mapping[str, Any]:
        """The JSON object, with the share and the mean confidence of each class. Raises UserError if not asked for."""
        if self._answer.summary is None:
            raise UserError("The response has no summary.", f"Ask for {JSON}.")
        return self._answer.summary

    def colours(self, palette: str | None = None) -> UInt8:
        """Return the mask in colours: uint8 (H, W, 3).

        palette: voc, ade20k or cityscapes; None for the colours of the response, which a PNG file with a palette and
        JSON have, or else for voc.
        """
        coloured: UInt8 = self._colours(palette)[self.mask]
        return coloured

    def overlay(self, opacity: float = 0.5, palette: str | None = None, image: ImageLike | None = None) -> UInt8:
        """Return the image with the mask drawn over it: uint8 (H, W, 3); black classes stay transparent.

        opacity: 0 to 1; palette: as of `colours`; image: the image, if a deserializer of the SDK, which does not have
        it, made this. Raises UserError if the image is needed or of another size.
        """
        source = self._source if image is None else load(image)
        if source is None or source.size != self.size:
            raise UserError("The image is missing, or of another size.", "Give the one that was sent as `image`.")
        return overlay(source.pixels, self.mask, self._colours(palette), opacity)

    def _colours(self, palette: str | None) -> UInt8:
        """The colour of each of the 256 ids: uint8 (256, 3)."""
        if palette is None and self._answer.colours is not None:
            return self._answer.colours
        if palette is not None and palette not in palettes.NAMES:
            raise UserError(f"{palette!r:.50} is not a palette.", f"Give one of {', '.join(palettes.NAMES)}, or none.")
        return palettes.palette(palette or "voc")

    @staticmethod
    def _required(array: Float32 | None, what: str, accept: str) -> Float32:
        if array is None:
            raise UserError(f"The response has no {what}.", f"Ask for {accept}.")
        return array
