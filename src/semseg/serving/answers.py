"""What /invocations answers with: the media types on offer, and for each the way from a prediction to bytes.

No HTTP here and no engine. Probabilities of all classes are computed only for an answer that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs import palettes
from semseg.codecs.images import encode_picture
from semseg.codecs.masks import encode_mask
from semseg.codecs.media_types import (
    JSON,
    NPY,
    PNG,
    PROTOBUF,
    RECORDIO_PROTOBUF,
    SHARE,
    Offers,
    choice,
    negotiate_accept,
)
from semseg.codecs.npy import encode_npy
from semseg.codecs.recordio import Buffer
from semseg.codecs.summary import encode_summary
from semseg.codecs.tensors import ENVELOPE, check_size, encode_classes, encode_probabilities
from semseg.errors import TooLargeError
from semseg.reporting.overlay import overlay
from semseg.types import Prediction, UInt8

PROBABILITIES, CLASSES, CONFIDENCE = "probabilities", "classes", "confidence"
"""Of each pixel: the probability of each class; the id of the most probable; that id and its probability."""

_VALUES = choice(PROBABILITIES, CLASSES, CONFIDENCE)

OFFERS: Offers = {
    RECORDIO_PROTOBUF: {"values": _VALUES},
    PROTOBUF: {"values": _VALUES},
    PNG: {"palette": choice(*palettes.NAMES), "overlay": SHARE},
    NPY: {"values": _VALUES, "dtype": choice("float32", "float16", "uint8")},
    JSON: {"rle": choice("false", "true")},
}
"""What a request's Accept may ask for; the first is the answer to no wish at all."""

_ONE_BYTE_IDS = 128
"""So many classes have ids of one byte in a record; others take up to two."""

_BytesPerPixel = Callable[[int], int]
"""At most, for a number of classes."""


@dataclass(frozen=True)
class Segmented:
    """A picture, uint8 (H, W, 3), what was predicted of it, and by which model."""

    image: UInt8
    prediction: Prediction
    model: ModelDescription


@dataclass(frozen=True)
class Answer:
    """One way to tell a prediction.

    media_type: the Content-Type, without parameters: what was asked for shows in the bytes. parts: the bytes, to be
    sent one after the other. memory: of all that is made of the logits until they are sent; length: of the bytes
    themselves, None where only coding tells. compressible: whether gzip is worth its time: float32 probabilities of
    all classes lose a tenth, in thirty times the time that the softmax takes, and PNG is compressed.
    """

    media_type: str
    parts: Callable[[Segmented], Sequence[Buffer]]
    memory: _BytesPerPixel
    length: _BytesPerPixel | None = None
    compressible: bool = False

    def check(self, num_classes: int, height: int, width: int, limit: int) -> None:
        """Raises TooLargeError, with the ways out, when an array will be larger than it may be.

        limit: bytes, 0 for none; what is coded has none.
        """
        if self.length is None:
            return
        size = self.length(num_classes) * height * width
        if limit and size + ENVELOPE > limit:
            raise TooLargeError(
                f"The answer for {width} x {height} pixels and {num_classes} classes has {size:,} bytes, more than the "
                f"limit of {limit:,}.",
                f"Ask for {NPY} with dtype=float16 or uint8, for values=confidence or classes, or for {PNG}; send a "
                "smaller picture; or serve with a higher SEMSEG_MAX_RESPONSE_MB. gzip does not count.",
            )
        if self.media_type != NPY:
            check_size(size)


def answer_to(accept: str | None) -> Answer:
    """The answer that a request's Accept prefers. Raises NotAcceptableError, with all that is on offer."""
    accepted = negotiate_accept(accept, OFFERS)
    given = accepted.parameters
    if accepted.media_type == PNG:
        palette, share = given.get("palette"), given.get("overlay")
        if share is not None:
            return _overlay(palettes.palette(palette or "voc"), float(share))
        return _mask(palettes.palette(palette) if palette else None)
    if accepted.media_type == JSON:
        return _summary(given.get("rle") == "true")
    values = given.get("values", PROBABILITIES)
    if accepted.media_type == NPY:
        return _npy(values, np.dtype(given.get("dtype", "uint8" if values == CLASSES else "float32")))
    return _record(accepted.media_type, values)


def _mask(colours: UInt8 | None) -> Answer:
    """Class ids as a PNG file, which is no larger than they are."""
    return Answer(PNG, lambda done: [encode_mask(done.prediction.labels(), colours)], lambda _: 2)


def _overlay(colours: UInt8, share: float) -> Answer:
    """The picture as a PNG file, its classes in colours over it.

    Memory: class ids 1, blended picture 3, Pillow's copy of it 4, the file 3 and the rest of its last growth.
    """

    def parts(done: Segmented) -> Sequence[Buffer]:
        return [encode_picture(overlay(done.image, done.prediction.labels(), colours, share))]

    return Answer(PNG, parts, lambda _: 12)


def _summary(runs: bool) -> Answer:
    """Names, pixels and mean confidence of the classes as JSON, with their regions if `runs`.

    Memory: class ids 1, confidence 4; for regions that change with every pixel the runs and their text.
    """

    def parts(done: Segmented) -> Sequence[Buffer]:
        names = done.model.class_names or (None,) * done.model.num_classes
        return encode_summary(*done.prediction.confidence(), names, runs)

    return Answer(JSON, parts, lambda _: 28 if runs else 6, compressible=True)


def _record(media_type: str, values: str) -> Answer:
    """Numbers as a record of recordio-protobuf: probabilities as float32, class ids as int32."""
    if values == PROBABILITIES:
        return Answer(
            media_type,
            lambda done: encode_probabilities(done.prediction.probabilities()),
            memory=lambda classes: 4 * classes,
            length=lambda classes: 4 * classes,
        )

    def id_bytes(classes: int) -> int:
        return 1 if classes <= _ONE_BYTE_IDS else 2

    if values == CLASSES:
        return Answer(
            media_type,
            lambda done: encode_classes(done.prediction.labels()),
            memory=lambda classes: id_bytes(classes) + 1,
            length=id_bytes,
            compressible=True,
        )
    return Answer(
        media_type,
        lambda done: encode_classes(*done.prediction.confidence()),
        memory=lambda classes: id_bytes(classes) + 1 + 4,
        length=lambda classes: id_bytes(classes) + 4,
        compressible=True,
    )


def _npy(values: str, dtype: np.dtype[Any]) -> Answer:
    """Numbers as a .npy file: (C, H, W); (H, W) of CLASSES; (2, H, W) of CONFIDENCE, the ids first.

    Probabilities of uint8 are 255ths.
    """
    each = dtype.itemsize
    if values == PROBABILITIES:
        return Answer(
            NPY,
            lambda done: encode_npy(done.prediction.probabilities(dtype)),
            memory=lambda classes: each * classes,
            length=lambda classes: each * classes,
            compressible=dtype != np.float32,
        )
    if values == CLASSES:
        return Answer(
            NPY,
            lambda done: encode_npy(done.prediction.labels().astype(dtype, copy=False)),
            memory=lambda _: 1 + each,
            length=lambda _: each,
            compressible=True,
        )

    def both(done: Segmented) -> Sequence[Buffer]:
        labels, confidence = done.prediction.confidence(dtype)
        planes = np.empty((2, *labels.shape), dtype)
        planes[0], planes[1] = labels, confidence
        return encode_npy(planes)

    return Answer(NPY, both, memory=lambda _: 1 + 3 * each, length=lambda _: 2 * each, compressible=True)
