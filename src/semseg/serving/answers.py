"""What /invocations answers with: the media types on offer, and for each the way from a prediction to bytes.

No HTTP here and no engine. OFFERS, at the end, is the one table: negotiation, building and OpenAPI's description read
it. Probabilities of all classes are computed only for an answer that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs import palettes
from semseg.codecs.images import encode_image
from semseg.codecs.masks import encode_mask
from semseg.codecs.media_types import (
    JSON,
    NPY,
    PNG,
    PROTOBUF,
    RECORDIO_PROTOBUF,
    SHARE,
    Parameter,
    choice,
    negotiate_accept,
    with_defaults,
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

_ONE_BYTE_IDS = 128
"""So many classes have ids of one byte in a record; others take up to two."""

_BytesPerPixel = Callable[[int], int]
"""At most, for a number of classes."""


@dataclass(frozen=True)
class Segmented:
    """An image, uint8 (H, W, 3), what was predicted of it, and by which model."""

    image: UInt8
    prediction: Prediction
    model: ModelDescription


@dataclass(frozen=True)
class Answer:
    """One way to send a prediction.

    media_type: the Content-Type, without parameters: what was asked for shows in the bytes. encode: makes the bytes, in
    pieces to be sent one after the other. memory: of all that is made of the logits until they are sent; length: of the
    bytes themselves, None where only coding shows it. check_length: raises TooLargeError for more bytes than the media
    type can hold. compressible: whether gzip is worth its time: float32 probabilities of all classes lose a tenth, in
    thirty times the time that the softmax takes, and PNG is compressed.
    """

    media_type: str
    encode: Callable[[Segmented], Sequence[Buffer]]
    memory: _BytesPerPixel
    length: _BytesPerPixel | None = None
    check_length: Callable[[int], object] = lambda _: None
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
        self.check_length(size)


_Builder = Callable[[str, Mapping[str, str]], Answer]
"""From a media type and its parameters, given or by default, to its answer."""


@dataclass(frozen=True)
class Offer:
    """A media type on offer: what parameters Accept may give, how its answer is built, and OpenAPI's schema of it."""

    parameters: Mapping[str, Parameter]
    build: _Builder
    schema: Mapping[str, object]


def _png(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """A PNG file: of the classes, or of the image with the classes over it if there is a share of theirs."""
    palette, share = parameters.get("palette"), parameters.get("overlay")
    if share is not None:
        return _overlay(media_type, palettes.palette(palette or "voc"), float(share))
    return _mask(media_type, palettes.palette(palette) if palette else None)


def _mask(media_type: str, colours: UInt8 | None) -> Answer:
    """Class ids as a PNG file, which is no larger than they are."""
    return Answer(media_type, lambda done: [encode_mask(done.prediction.labels(), colours)], lambda _: 2)


def _overlay(media_type: str, colours: UInt8, share: float) -> Answer:
    """The image as a PNG file, its classes in colours over it.

    Memory: class ids 1, blended image 3, Pillow's copy of it 4, the file 3 and the rest of its last growth.
    """

    def encode(done: Segmented) -> Sequence[Buffer]:
        return [encode_image(overlay(done.image, done.prediction.labels(), colours, share))]

    return Answer(media_type, encode, lambda _: 12)


def _summary(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """Names, pixels and mean confidence of the classes as JSON, with their regions if `rle` is true.

    Memory: class ids 1, confidence 4; for regions that change with every pixel the runs and their text.
    """

    runs = parameters["rle"] == "true"

    def encode(done: Segmented) -> Sequence[Buffer]:
        names = done.model.class_names or (None,) * done.model.num_classes
        return encode_summary(*done.prediction.confidence(), names, runs)

    return Answer(media_type, encode, lambda _: 28 if runs else 6, compressible=True)


def _record(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """Numbers as a record of recordio-protobuf: probabilities as float32, class ids as int32."""
    values = parameters["values"]
    if values == PROBABILITIES:
        return Answer(
            media_type,
            lambda done: encode_probabilities(done.prediction.probabilities()),
            memory=lambda classes: 4 * classes,
            length=lambda classes: 4 * classes,
            check_length=check_size,
        )

    def id_bytes(classes: int) -> int:
        return 1 if classes <= _ONE_BYTE_IDS else 2

    if values == CLASSES:
        return Answer(
            media_type,
            lambda done: encode_classes(done.prediction.labels()),
            memory=lambda classes: id_bytes(classes) + 1,
            length=id_bytes,
            check_length=check_size,
            compressible=True,
        )
    return Answer(
        media_type,
        lambda done: encode_classes(*done.prediction.confidence()),
        memory=lambda classes: id_bytes(classes) + 1 + 4,
        length=lambda classes: id_bytes(classes) + 4,
        check_length=check_size,
        compressible=True,
    )


def _npy(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """Numbers as a .npy file: (C, H, W); (H, W) of CLASSES; (2, H, W) of CONFIDENCE, the ids first.

    Probabilities of uint8 are 255ths.
    """
    values, dtype = parameters["values"], np.dtype[Any](parameters["dtype"])
    each = dtype.itemsize
    if values == PROBABILITIES:
        return Answer(
            media_type,
            lambda done: encode_npy(done.prediction.probabilities(dtype)),
            memory=lambda classes: each * classes,
            length=lambda classes: each * classes,
            compressible=dtype != np.float32,
        )
    if values == CLASSES:
        return Answer(
            media_type,
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

    return Answer(media_type, both, memory=lambda _: 1 + 3 * each, length=lambda _: 2 * each, compressible=True)


_VALUES = choice(PROBABILITIES, CLASSES, CONFIDENCE, default=PROBABILITIES)

OFFERS: Mapping[str, Offer] = {
    RECORDIO_PROTOBUF: Offer(
        {"values": _VALUES},
        _record,
        {
            "description": "One RecordIO record that holds an aialgs.data.Record. values=probabilities: the feature "
            "target holds float32, the feature shape [1, C, H, W]. values=classes: target holds the class ids, int32, "
            "shape [1, H, W]. values=confidence: the same, and the feature confidence holds the probability of each "
            "pixel's class, float32."
        },
    ),
    PROTOBUF: Offer({"values": _VALUES}, _record, {"description": "The same bytes under another name."}),
    PNG: Offer(
        {"palette": choice(*palettes.NAMES), "overlay": SHARE},
        _png,
        {
            "description": "A PNG file of the picture's size. Without parameters mode L, each pixel a class id. With "
            "palette mode P, the same ids, shown in colours. With overlay mode RGB, the picture with the classes in "
            "colours over it, whose share this is; a class whose colour is black stays clear."
        },
    ),
    NPY: Offer(
        {
            "values": _VALUES,
            "dtype": choice(
                "float32", "float16", "uint8", default="float32", default_beside={("values", CLASSES): "uint8"}
            ),
        },
        _npy,
        {
            "description": "A .npy file. values=probabilities: (C, H, W). values=classes: the class ids, (H, W), uint8 "
            "if dtype is not given. values=confidence: (2, H, W), first the class ids, then the probability of each "
            "pixel's class. Probabilities are 0 to 1, as uint8 round(255 p)."
        },
    ),
    JSON: Offer({"rle": choice("false", "true", default="false")}, _summary, {"$ref": "#/components/schemas/Summary"}),
}
"""What a request's Accept may ask for; without one the first is sent."""


def answer_to(accept: str | None, offers: Mapping[str, Offer] = OFFERS) -> Answer:
    """The answer that a request's Accept prefers. Raises NotAcceptableError, with all that is on offer."""
    accepted = negotiate_accept(accept, {media_type: offer.parameters for media_type, offer in offers.items()})
    offer = offers[accepted.media_type]
    return offer.build(accepted.media_type, with_defaults(accepted.parameters, offer.parameters))
