"""What holds for every row of OFFERS, with each value that its parameters list: a new row is tested here by itself.

It needs an entry in `DECODERS`, and one in `CODED` if its length depends on the image. Everything that is particular to
a media type is tested in test_answers.py.
"""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.media_types import JSON, NPY, PNG, PROTOBUF, RECORDIO_PROTOBUF, Parameter
from semseg.codecs.palettes import NAMES, palette
from semseg.codecs.recordio import total_bytes
from semseg.codecs.tensors import ENVELOPE
from semseg.errors import TooLargeError
from semseg.inference.predictor import LogitsPrediction
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.serving.answers import OFFERS, Segmented, answer_to
from semseg.types import Classes

SHARE = 0.5
CODED = {PNG, JSON}
"""The media types whose length depends on the image."""


def every_accept() -> Iterator[str]:
    """All combinations of listed values; a parameter without a default is also left out, a number is SHARE."""

    def choices(name: str, parameter: Parameter) -> list[str]:
        words: Any = parameter.schema.get("enum", [SHARE])
        return [f"; {name}={word}" for word in words] + ([] if parameter.default else [""])

    for media_type, offer in OFFERS.items():
        for chosen in product(*(choices(*entry) for entry in offer.parameters.items())):
            yield media_type + "".join(chosen)


def media_type(accept: str) -> str:
    return accept.partition(";")[0]


EVERY = list(every_accept())
ARRAYS = [accept for accept in EVERY if media_type(accept) not in CODED]


def segmented(logits: NDArray[np.float32], height: int, width: int) -> Segmented:
    """A black image and its prediction."""
    model = ModelDescription(
        NETWORKS[0], BACKBONES[0], len(logits), None, True, Path("/nowhere"), Classes.unknown(len(logits))
    )
    return Segmented(np.zeros((height, width, 3), np.uint8), LogitsPrediction(logits, height, width), model)


def _labels_of_record(body: bytes, _: str, record_class: Any) -> Any:
    message = record_class()
    message.ParseFromString(body[8 : 8 + int.from_bytes(body[4:8], "little")])
    target, shape = message.features["target"], list(message.features["shape"].int32_tensor.values)
    values = np.array(target.int32_tensor.values or target.float32_tensor.values).reshape(shape)[0]
    return values if values.ndim == 2 else values.argmax(axis=0)


def _labels_of_png(body: bytes, accept: str, _: Any) -> Any:
    image = Image.open(io.BytesIO(body))
    if "overlay" not in accept and "legend=true" not in accept:
        return np.array(image)
    colours = (palette(next((name for name in NAMES if name in accept), "voc")) * SHARE).astype(np.uint8)
    shown = (np.array(image)[..., None, :] == colours[:5]).all(axis=-1)  # over a black image
    assert (shown.sum(axis=-1) == 1).all()
    return shown.argmax(axis=-1)


def _labels_of_npy(body: bytes, accept: str, _: Any) -> Any:
    array = np.load(io.BytesIO(body), allow_pickle=False)
    if "values=probabilities" in accept:
        return array.argmax(axis=0)
    return array if "values=classes" in accept else array[0]


def _labels_of_json(body: bytes, accept: str, _: Any) -> Any:
    """Without regions there are only counts, which are enough for sorted labels."""
    summary = json.loads(body)
    height, width = summary["height"], summary["width"]
    if "rle=true" not in accept:
        return np.repeat(range(5), [entry["pixels"] for entry in summary["classes"]]).reshape(height, width)
    labels = np.full(height * width, 255)
    for number, entry in enumerate(summary["classes"]):
        counts = entry["rle"]["counts"]
        labels[np.repeat(np.arange(len(counts)) % 2 == 1, counts)] = number
    return labels.reshape(width, height).T


DECODERS: Mapping[str, Callable[[bytes, str, Any], Any]] = {
    RECORDIO_PROTOBUF: _labels_of_record,
    PROTOBUF: _labels_of_record,
    PNG: _labels_of_png,
    NPY: _labels_of_npy,
    JSON: _labels_of_json,
}
"""For each media type: a body, the Accept header and the record's class -> the class of each pixel, (H, W)."""


def test_every_media_type_has_a_decoder_here() -> None:
    assert DECODERS.keys() == OFFERS.keys()
    assert OFFERS.keys() >= CODED


@pytest.mark.parametrize("accept", EVERY)
def test_every_answer_holds_the_class_of_each_pixel(accept: str, record_class: Any) -> None:
    """The classes are in order, row by row, and so certain that no rounding makes two of them equal."""
    labels = np.sort(np.random.default_rng(0).integers(0, 5, 13 * 17)).reshape(13, 17)
    certain = 9 * (labels == np.arange(5)[:, None, None]).astype(np.float32)
    answer = answer_to(accept)
    assert answer.media_type == media_type(accept)
    body = b"".join(answer.encode(segmented(certain, 13, 17)))
    np.testing.assert_array_equal(DECODERS[media_type(accept)](body, accept, record_class), labels)


@pytest.mark.parametrize("classes", [5, 128, 129, 254])
@pytest.mark.parametrize("accept", ARRAYS)
def test_the_length_of_an_array_is_known_before(accept: str, classes: int) -> None:
    height, width = 61, 83
    logits = np.random.default_rng(classes).normal(scale=4, size=(classes, 8, 11)).astype(np.float32)
    answer = answer_to(accept)
    assert answer.length
    values, sent = answer.length(classes) * height * width, total_bytes(answer.encode(segmented(logits, height, width)))
    assert values - (height * width if classes > 128 else 0) < sent <= values + ENVELOPE
    answer.check(classes, height, width, limit=values + ENVELOPE)
    answer.check(classes, height, width, limit=0)
    with pytest.raises(TooLargeError) as caught:
        answer.check(classes, height, width, limit=values + ENVELOPE - 1)
    assert f"{values:,} bytes" in caught.value.message
    assert all(way in caught.value.hint for way in ("float16", "classes", "image/png", "SEMSEG_MAX_RESPONSE_MB"))


@pytest.mark.parametrize("accept", [accept for accept in EVERY if media_type(accept) in CODED])
def test_what_is_coded_has_no_limit(accept: str) -> None:
    answer_to(accept).check(254, 10_000, 10_000, limit=1)


class WithoutProbabilities:
    """A prediction that fails the test if all probabilities are requested."""

    def __init__(self, prediction: LogitsPrediction) -> None:
        self.labels = prediction.labels
        self.confidence = prediction.confidence

    def probabilities(self, dtype: object = None) -> Any:
        raise AssertionError("all probabilities")


@pytest.mark.parametrize("accept", [accept for accept in EVERY if "probabilities" not in accept])
def test_only_answers_with_all_probabilities_compute_them(accept: str) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 8, 11)).astype(np.float32)
    done = segmented(logits, 61, 83)
    prediction = WithoutProbabilities(LogitsPrediction(logits, 61, 83))
    assert b"".join(answer_to(accept).encode(replace(done, prediction=prediction)))


class Noise:
    """The prediction that takes most memory to encode: labels that change with every pixel."""

    def __init__(self, classes: int, side: int) -> None:
        self._classes, self._side = classes, side

    def labels(self) -> Any:
        return np.random.default_rng(0).integers(0, self._classes, (self._side, self._side), np.uint8)

    def confidence(self, dtype: Any = np.float32) -> Any:
        return self.labels(), np.ones((self._side, self._side), dtype)

    def probabilities(self, dtype: Any = np.float32) -> Any:
        return np.ones((self._classes, self._side, self._side), dtype)


@pytest.mark.parametrize("classes", [2, 21, 254])
@pytest.mark.parametrize("accept", EVERY)
def test_the_memory_of_an_answer_is_what_it_takes_at_the_worst(accept: str, classes: int) -> None:
    """As traced by Python and numpy, which do not see the 4 bytes of Pillow's own copy of an overlay.

    A byte for each pixel more than the answer states fails.
    """
    side = 700
    answer, small = answer_to(accept), segmented(np.zeros((classes, 1, 1), np.float32), 8, 8)
    done = replace(small, image=np.full((side, side, 3), 7, np.uint8), prediction=Noise(classes, side))
    answer.encode(small)  # modules imported and objects cached on first use do not count
    tracemalloc.start()
    encoded = answer.encode(done)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert encoded
    unseen = 4 if "overlay" in accept else 0
    assert peak <= (answer.memory(classes) - unseen) * side**2 + side**2 // 4
