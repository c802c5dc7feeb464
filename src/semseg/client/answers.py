"""Responses of a server: which ones can be asked for, and what they decode to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.colors import parse_color, value_colors
from semseg.codecs.images import open_image
from semseg.codecs.masks import decode_mask
from semseg.codecs.media_types import JSON, NPY, PNG, PROTOBUF, RECORDIO_PROTOBUF
from semseg.codecs.npy import decode_npy
from semseg.codecs.runs import labels_of
from semseg.codecs.tensors import decode_tensors
from semseg.errors import DataError, FormatError, ImageError, NotAcceptableError, ServerError, UserError
from semseg.types import Float32, UInt8

_MOST_PIXELS = 10**9


@dataclass(frozen=True)
class Answer:
    """What a response contains for an image of size (height, width), None for what it lacks.

    mask: uint8 (H, W); probabilities: float32 (C, H, W); confidence: float32 (H, W); summary: the JSON object; colours:
    that of each of the 256 ids, uint8 (256, 3).
    """

    size: tuple[int, int]
    mask: UInt8 | None = None
    probabilities: Float32 | None = None
    confidence: Float32 | None = None
    summary: Mapping[str, Any] | None = None
    colours: UInt8 | None = None


@dataclass(frozen=True)
class Wanted:
    """A response to ask for: the whole Accept header, its media type and its parameters."""

    accept: str
    media_type: str
    parameters: Mapping[str, str]

    @property
    def values(self) -> str:
        """What arrays give for each pixel: probabilities, classes or confidence."""
        return self.parameters.get("values", "probabilities")

    def bytes_per_pixel(self, num_classes: int) -> int:
        """The bytes of the response for each pixel, at most; of JSON, which depends on the image, 0."""
        if self.media_type == PNG:
            return 2
        if self.media_type == NPY:
            item = {"uint8": 1, "float16": 2}.get(self.parameters.get("dtype", ""), 4)
            return item * {"classes": 1, "confidence": 2}.get(self.values, num_classes)
        if self.media_type == JSON:
            return 0
        return {"classes": 2, "confidence": 6}.get(self.values, 4 * num_classes)


def wanted(accept: str) -> Wanted:
    """Parse an Accept header that names one media type, such as ``application/x-npy; values=classes``.

    The server checks the parameters. Raises NotAcceptableError for a type that cannot be decoded here.
    """
    media_type, *parts = (part.strip().lower() for part in accept.split(";"))
    parameters = {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in parts)}
    drawn = "overlay" in parameters or parameters.get("legend") == "true"
    if media_type not in _DECODERS or drawn:
        raise NotAcceptableError(
            f"A response of {accept!r:.100} cannot be decoded here.",
            f"Ask for one of {', '.join(_DECODERS)}; overlays are drawn by Segmentation.overlay.",
        )
    return Wanted(accept, media_type, parameters)


def decode(body: bytes, content_type: str, asked: Wanted, size: tuple[int, int] | None = None) -> Answer:
    """Decode a response to `asked` for an image of size (height, width), None if that is not known.

    content_type: that of the response; if it names no type known here, the type asked for counts.
    Raises ServerError for a body that is damaged, is something else, or belongs to an image of another size.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    decoder = _DECODERS.get(media_type, _DECODERS[asked.media_type])
    try:
        answer = decoder(body, asked.values)
        if size is not None and answer.size != size:
            raise FormatError(f"is for {answer.size[1]} x {answer.size[0]} pixels, not {size[1]} x {size[0]}")
    except (FormatError, DataError, ImageError) as error:
        text = error.message if isinstance(error, UserError) else f"It {error}"
        raise ServerError(
            f"The response of type {content_type!r:.80} cannot be decoded. {text.rstrip('.')}.",
            "Is this the address of a server of semantic segmentation?",
        ) from error
    return answer


_Decoder = Callable[[bytes, str], Answer]
"""Decodes a body with these `Wanted.values`; raises FormatError, DataError, ImageError."""


def _from_record(body: bytes, _: str) -> Answer:
    features = decode_tensors(body)
    if "target" not in features:
        raise FormatError("has no feature 'target'")
    if features["target"].dtype == np.float32:
        return _of_probabilities(features["target"])
    return _of_classes(features["target"], features.get("confidence"))


def _from_png(body: bytes, _: str) -> Answer:
    image = open_image(body, _MOST_PIXELS)
    packed = value_colors(image) if image.mode == "P" else None  # without a palette it has no colours
    return replace(_of_classes(decode_mask(body, _MOST_PIXELS)), colours=None if packed is None else _unpacked(packed))


def _from_npy(body: bytes, values: str) -> Answer:
    array = decode_npy(body)
    if values == "probabilities":
        return _of_probabilities(array)
    if values == "classes":
        return _of_classes(array)
    if array.ndim != 3 or len(array) != 2:
        raise FormatError(f"has the shape {array.shape}, not (2, height, width)")
    return _of_classes(array[0], array[1])


def _from_json(body: bytes, _: str) -> Answer:
    try:
        summary = json.loads(body)
        size, classes = (int(summary["height"]), int(summary["width"])), summary["classes"]
        if min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
            raise FormatError("is for an image of a size that no image has")
        colours = _listed(classes)
        if not all("rle" in entry for entry in classes):
            return Answer(size, summary=summary, colours=colours)
        regions = ((entry["id"], np.array(entry["rle"]["counts"], np.int64).reshape(-1)) for entry in classes)
        return Answer(size, labels_of(regions, *size), summary=summary, colours=colours)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError("is not the JSON object of a prediction") from error


def _listed(classes: Sequence[Mapping[str, Any]]) -> UInt8 | None:
    """The colours in a summary, in which servers of earlier versions have none; raises ValueError for others."""
    if not all("color" in entry for entry in classes):
        return None
    packed = np.zeros(256, np.int64)
    packed[[int(entry["id"]) for entry in classes]] = [parse_color(str(entry["color"])) for entry in classes]
    return _unpacked(packed)


def _unpacked(colors: NDArray[np.int64]) -> UInt8:
    """Colours 0xRRGGBB (256,), -1 for none, as uint8 (256, 3)."""
    colours: UInt8 = (np.maximum(colors, 0)[:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    return colours


def _of_probabilities(values: NDArray[Any]) -> Answer:
    if values.ndim != 3:
        raise FormatError(f"has probabilities in {values.ndim} dimensions, not three")
    return Answer((values.shape[1], values.shape[2]), probabilities=_shares(values))


def _of_classes(ids: NDArray[Any], confidence: NDArray[Any] | None = None) -> Answer:
    if ids.ndim != 2 or (ids.size and not 0 <= ids.min() <= ids.max() <= 255):
        raise FormatError("has no class ids of 0 to 255 in two dimensions")
    size = ids.shape[0], ids.shape[1]
    return Answer(size, ids.astype(np.uint8), confidence=None if confidence is None else _shares(confidence))


def _shares(values: NDArray[Any]) -> Float32:
    """Probabilities 0 to 1; as uint8 they come in units of 1/255."""
    if values.dtype == np.uint8:
        return values / np.float32(255)
    return values.astype(np.float32, copy=False)


_DECODERS: Mapping[str, _Decoder] = {
    RECORDIO_PROTOBUF: _from_record,
    PROTOBUF: _from_record,
    PNG: _from_png,
    NPY: _from_npy,
    JSON: _from_json,
}
