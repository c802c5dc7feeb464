"""The media types of responses to /invocations, and how a prediction is encoded as each of them.

This module knows neither HTTP nor engines. OFFERS, at the end, is the one table that content negotiation, encoding and
the OpenAPI description read. Probabilities of all classes are computed only for an answer that contains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semseg.artifact.model_dir import BASE, NONE, ModelDescription
from semseg.codecs import palettes
from semseg.codecs.images import encode_image
from semseg.codecs.legends import draw_legend
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
from semseg.codecs.overlays import overlay
from semseg.codecs.recordio import Buffer
from semseg.codecs.summary import encode_summary
from semseg.codecs.tensors import ENVELOPE, check_size, encode_classes, encode_probabilities
from semseg.errors import TooLargeError
from semseg.inference.scaling import FACTOR
from semseg.types import Prediction, UInt8

PROBABILITIES, CLASSES, CONFIDENCE = "probabilities", "classes", "confidence"
"""What an answer gives for each pixel: the probability of each class; the most probable class; that and its
probability."""

_OPACITY = 0.5
"""The opacity of an overlay for which only a legend is requested."""

_ONE_BYTE_IDS = 128
"""Up to this number of classes, ids take one byte each in a record; with more classes up to two."""

_BytesPerPixel = Callable[[int], int]
"""An upper bound on the bytes per pixel, given the number of classes."""


@dataclass(frozen=True)
class Segmented:
    """An image, uint8 (H, W, 3), its prediction, and the model that made it."""

    image: UInt8
    prediction: Prediction
    model: ModelDescription


@dataclass(frozen=True)
class Answer:
    """One way to encode a prediction.

    media_type: the Content-Type, without parameters. encode: returns the bytes as pieces to be sent in order. memory:
    bytes per pixel of everything made from the logits until the answer is sent, for the worst image. length: bytes per
    pixel of the encoded answer, None if it is known only after encoding. check_length: raises TooLargeError for more
    bytes than the media type can hold. compressible: whether gzip is worth its time: float32 probabilities of all
    classes shrink by a tenth, in thirty times the time of the softmax, and PNG is compressed already. scale: the size
    at which the network gets the image, for `scaling.scale_of`; None if Accept does not say.
    """

    media_type: str
    encode: Callable[[Segmented], Sequence[Buffer]]
    memory: _BytesPerPixel
    length: _BytesPerPixel | None = None
    check_length: Callable[[int], object] = lambda _: None
    compressible: bool = False
    scale: str | None = None

    def check(self, num_classes: int, height: int, width: int, limit: int) -> None:
        """Raises TooLargeError, with a hint at smaller answers, if the answer will be larger than allowed.

        limit: bytes, 0 for no limit; an answer of unknown length is not checked.
        """
        if self.length is None:
            return
        size = self.length(num_classes) * height * width
        if limit and size + ENVELOPE > limit:
            raise TooLargeError(
                f"The answer for {width} x {height} pixels and {num_classes} classes has {size:,} bytes, more than the "
                f"limit of {limit:,}.",
                f"Ask for {NPY} with dtype=float16 or uint8, for values=confidence or classes, or for {PNG}; send a "
                "smaller image; or serve with a higher SEMSEG_MAX_RESPONSE_MB. The size counts before gzip.",
            )
        self.check_length(size)


_Builder = Callable[[str, Mapping[str, str]], Answer]
"""Builds the answer of a media type from its parameters, defaults filled in."""


@dataclass(frozen=True)
class Offer:
    """A supported media type: the parameters that Accept may give, the builder of its answer, its OpenAPI schema."""

    parameters: Mapping[str, Parameter]
    build: _Builder
    schema: Mapping[str, object]


def _png(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """A PNG file of the class ids, or, with `overlay` or `legend`, of the image with the classes drawn over it."""
    palette, share, legend = parameters.get("palette"), parameters.get("overlay"), parameters.get("legend") == "true"
    if share is None and not legend:
        return _mask(media_type, palette)
    return _overlay(media_type, palette or "voc", float(share or _OPACITY), legend)


def _mask(media_type: str, palette: str | None) -> Answer:
    """The class ids as a PNG file. Bytes per pixel: class ids 1, at worst the file as many and its buffer's spare."""

    def encode(done: Segmented) -> Sequence[Buffer]:
        colours = palettes.chosen_palette(palette, done.model.classes) if palette else None
        return [encode_mask(done.prediction.labels(), colours)]

    return Answer(media_type, encode, lambda _: 3)


def _overlay(media_type: str, palette: str, share: float, legend: bool) -> Answer:
    """The image with its classes drawn over it in colours, as a PNG file.

    Bytes per pixel: class ids 1, blended image 3, Pillow's copy of it 4, the file 3 and its buffer's spare capacity.
    """

    def encode(done: Segmented) -> Sequence[Buffer]:
        labels, colours = done.prediction.labels(), palettes.chosen_palette(palette, done.model.classes)
        blended = overlay(done.image, labels, colours, share)
        if legend:
            draw_legend(blended, labels, done.model.classes.titles, colours)
        return [encode_image(blended)]

    return Answer(media_type, encode, lambda _: 12)


def _summary(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """Names, pixel counts and mean confidence of the classes as JSON, with their regions if `rle` is true.

    Bytes per pixel: class ids 1, confidence 4; with regions, at worst a run for every pixel, and its text.
    """
    runs = parameters["rle"] == "true"

    def encode(done: Segmented) -> Sequence[Buffer]:
        names = done.model.classes.titles if done.model.classes.named else done.model.classes.names
        return encode_summary(*done.prediction.confidence(), names, runs, palettes.color_names(done.model.classes))

    return Answer(media_type, encode, lambda _: 28 if runs else 6, compressible=True)


def _record(media_type: str, parameters: Mapping[str, str]) -> Answer:
    """A recordio-protobuf record: probabilities as float32, class ids as int32."""
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
    """A .npy file: PROBABILITIES (C, H, W); CLASSES (H, W); CONFIDENCE (2, H, W), the ids first.

    Probabilities as uint8 are in units of 1/255. Without a dtype, ids alone are uint8, and the other arrays float32.
    """
    values = parameters["values"]
    dtype = np.dtype[Any](parameters.get("dtype", "uint8" if values == CLASSES else "float32"))
    item_bytes = dtype.itemsize
    if values == PROBABILITIES:
        return Answer(
            media_type,
            lambda done: encode_npy(done.prediction.probabilities(dtype)),
            memory=lambda classes: item_bytes * classes,
            length=lambda classes: item_bytes * classes,
            compressible=dtype != np.float32,
        )
    if values == CLASSES:
        return Answer(
            media_type,
            lambda done: encode_npy(done.prediction.labels().astype(dtype, copy=False)),
            memory=lambda _: 1 + item_bytes,
            length=lambda _: item_bytes,
            compressible=True,
        )

    def classes_and_confidence(done: Segmented) -> Sequence[Buffer]:
        labels, confidence = done.prediction.confidence(dtype)
        planes = np.empty((2, *labels.shape), dtype)
        planes[0], planes[1] = labels, confidence
        return encode_npy(planes)

    return Answer(
        media_type,
        classes_and_confidence,
        memory=lambda _: 1 + 3 * item_bytes,
        length=lambda _: 2 * item_bytes,
        compressible=True,
    )


_VALUES = choice(PROBABILITIES, CLASSES, CONFIDENCE, default=PROBABILITIES)

OFFERS: Mapping[str, Offer] = {
    RECORDIO_PROTOBUF: Offer(
        {"values": _VALUES},
        _record,
        {
            "description": "One RecordIO record that contains an aialgs.data.Record. values=probabilities: the feature "
            "target is float32, the feature shape [1, C, H, W]. values=classes: target is the class ids, int32, and "
            "shape [1, H, W]. values=confidence: the same, and the feature confidence is the probability of each "
            "pixel's class, float32."
        },
    ),
    PROTOBUF: Offer({"values": _VALUES}, _record, {"description": "The same bytes under another name."}),
    PNG: Offer(
        {
            "palette": choice(*palettes.NAMES, palettes.MODEL),
            "overlay": SHARE,
            "legend": choice("false", "true", default="false"),
        },
        _png,
        {
            "description": "A PNG file of the image's size. Without parameters: mode L, each pixel a class id. With "
            "palette: mode P, the same ids with a colour palette. With overlay: mode RGB, the image with the classes "
            "drawn over it in colours at this opacity; a class whose colour is black is transparent. palette=model: "
            "the model's own colours. legend=true: the overlay, its opacity 0.5 if not given, lists the names and "
            "colours of the image's classes in its upper left corner."
        },
    ),
    NPY: Offer(
        {"values": _VALUES, "dtype": choice("float32", "float16", "uint8")},
        _npy,
        {
            "description": "A .npy file. values=probabilities: (C, H, W). values=classes: the class ids, (H, W), uint8 "
            "if dtype is not given. values=confidence: (2, H, W), first the class ids, then the probability of each "
            "pixel's class. Without dtype, arrays with probabilities are float32. Probabilities are 0 to 1; as uint8, "
            "round(255 p)."
        },
    ),
    JSON: Offer({"rle": choice("false", "true", default="false")}, _summary, {"$ref": "#/components/schemas/Summary"}),
}
"""The media types that Accept may request; the first is sent when there is no Accept header."""


SCALE = Parameter(
    f"{NONE}|{BASE}|{FACTOR}",
    f"{NONE}|{BASE}|0.05 to 4",
    {"anyOf": [{"enum": [NONE, BASE]}, {"type": "number", "minimum": 0.05, "maximum": 4}]},
)
COMMON: Mapping[str, Parameter] = {"scale": SCALE}
"""The parameters that every media type has."""


def answer_to(accept: str | None, offers: Mapping[str, Offer] = OFFERS) -> Answer:
    """The answer that a request's Accept header prefers. Raises NotAcceptableError, listing the supported types."""
    parameters = {media_type: {**offer.parameters, **COMMON} for media_type, offer in offers.items()}
    accepted = negotiate_accept(accept, parameters)
    offer = offers[accepted.media_type]
    answer = offer.build(accepted.media_type, with_defaults(accepted.parameters, offer.parameters))
    return replace(answer, scale=accepted.parameters.get("scale"))
