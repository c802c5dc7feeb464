"""What is particular to the answer of each media type; what holds for all of them is tested in test_offers.py."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.legends import draw_legend
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import color_names, model_palette, palette
from semseg.codecs.tensors import encode_probabilities
from semseg.errors import NotAcceptableError, TooLargeError
from semseg.inference.predictor import LogitsPrediction
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.serving.answers import OFFERS, Segmented, answer_to
from semseg.types import Classes

HEIGHT, WIDTH = 61, 83
CODED_REGIONS = "application/json; rle=true"


def segmented(classes: int = 5, height: int = HEIGHT, width: int = WIDTH) -> Segmented:
    """A segmented image with random logits that change much from cell to cell."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(scale=4, size=(classes, -(-height // 8), -(-width // 8))).astype(np.float32)
    model = ModelDescription(NETWORKS[0], BACKBONES[0], classes, None, True, Path("/nowhere"), Classes.unknown(classes))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return Segmented(image, LogitsPrediction(logits, height, width), model)


def whole(accept: str | None, done: Segmented) -> bytes:
    return b"".join(answer_to(accept).encode(done))


def loaded(accept: str, done: Segmented) -> Any:
    return np.load(io.BytesIO(whole(accept, done)), allow_pickle=False)


def record(record_class: Any, accept: str, done: Segmented) -> Any:
    body = whole(accept, done)
    message = record_class()
    message.ParseFromString(body[8 : 8 + int.from_bytes(body[4:8], "little")])
    return message.features


@pytest.mark.req("R2", "R10", "R49", "R51", "R52", "R53")
def test_bare_types_are_the_answers_of_the_original() -> None:
    done = segmented()
    probabilities = b"".join(encode_probabilities(done.prediction.probabilities()))
    for accept in (None, "*/*", "application/x-recordio-protobuf", "application/x-protobuf"):
        assert whole(accept, done) == probabilities
    mask = Image.open(io.BytesIO(whole("image/png", done)))
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.array(mask), done.prediction.labels())


@pytest.mark.parametrize("name", ["voc", "ade20k", "cityscapes"])
def test_a_palette_colours_the_same_ids(name: str) -> None:
    done = segmented()
    mask = Image.open(io.BytesIO(whole(f"image/png; palette={name}", done)))
    labels = done.prediction.labels()
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.array(mask), labels)
    np.testing.assert_array_equal(np.array(mask.convert("RGB")), palette(name)[labels])


@pytest.mark.parametrize(
    ("parameters", "name", "share"), [("overlay=0.25", "voc", 0.25), ("overlay=1;palette=ade20k", "ade20k", 1)]
)
def test_an_overlay_is_the_image_under_colours(parameters: str, name: str, share: float) -> None:
    done = segmented()
    sent = Image.open(io.BytesIO(whole(f"image/png; {parameters}", done)))
    assert sent.mode == "RGB"
    expected = overlay(done.image, done.prediction.labels(), palette(name), share)
    np.testing.assert_array_equal(np.array(sent), expected)


@pytest.mark.parametrize("classes", [5, 254])
def test_a_record_of_classes_may_have_their_confidence(record_class: Any, classes: int) -> None:
    done = segmented(classes)
    labels, confidence = done.prediction.confidence()
    features = record(record_class, "application/x-recordio-protobuf; values=classes", done)
    assert set(features) == {"target", "shape"}
    assert list(features["shape"].int32_tensor.values) == [1, HEIGHT, WIDTH]
    assert list(features["target"].int32_tensor.values) == labels.ravel().tolist()
    sure = record(record_class, "application/x-protobuf; values=confidence", done)
    assert set(sure) == {"target", "shape", "confidence"}
    assert list(sure["target"].int32_tensor.values) == labels.ravel().tolist()
    assert list(sure["confidence"].float32_tensor.values) == confidence.ravel().tolist()


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 1), ("float16", 1), ("uint8", 255)])
def test_npy_holds_any_of_the_values_in_any_dtype(dtype: str, largest: int) -> None:
    done = segmented()
    exact, labels = done.prediction.probabilities(), done.prediction.labels()
    probabilities = loaded(f"application/x-npy; dtype={dtype}", done)
    classes = loaded(f"application/x-npy; dtype={dtype}; values=classes", done)
    ids, confidence = loaded(f"application/x-npy; dtype={dtype}; values=confidence", done)
    assert {array.dtype for array in (probabilities, classes, ids, confidence)} == {np.dtype(dtype)}
    tolerance = {"float32": 0, "float16": 1e-3, "uint8": 0.5 / 255 + 1e-6}[dtype]
    np.testing.assert_allclose(probabilities / largest, exact, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(classes, labels)
    np.testing.assert_array_equal(ids, labels)
    np.testing.assert_allclose(confidence / largest, exact.max(axis=0), rtol=0, atol=tolerance + 1e-6)


def test_npy_is_of_float32_and_of_classes_alone_uint8() -> None:
    assert loaded("application/x-npy", segmented()).dtype == np.float32
    assert loaded("application/x-npy; values=confidence", segmented()).dtype == np.float32
    assert loaded("application/x-npy; values=classes", segmented()).dtype == np.uint8


def test_json_names_the_classes_if_the_model_does() -> None:
    done = segmented()
    reported = json.loads(whole("application/json", done))
    assert [entry["name"] for entry in reported["classes"]] == [None] * 5
    assert "rle" not in reported["classes"][0]
    labels, confidence = done.prediction.confidence()
    assert [entry["pixels"] for entry in reported["classes"]] == np.bincount(labels.ravel(), minlength=5).tolist()
    assert reported["mean_confidence"] == pytest.approx(confidence.mean(), abs=1e-6)
    names = ("background", "a", "b", "c", "d")
    named = replace(done, model=replace(done.model, classes=Classes(names, (None,) * 5)))
    reported = json.loads(whole(CODED_REGIONS, named))
    assert tuple(entry["name"] for entry in reported["classes"]) == names
    assert [sum(entry["rle"]["counts"]) for entry in reported["classes"]] == [HEIGHT * WIDTH] * 5
    assert [sum(entry["rle"]["counts"][1::2]) for entry in reported["classes"]] == [
        e["pixels"] for e in reported["classes"]
    ]


@pytest.mark.parametrize("accept", ["image/png; palette=rainbow", "application/x-protobuf; dtype=uint8", "text/csv"])
def test_what_is_not_on_offer_is_refused_with_all_that_is(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        answer_to(accept)
    assert all(media_type in caught.value.hint for media_type in OFFERS)
    assert "(values=probabilities|classes|confidence; dtype=float32|float16|uint8)" in caught.value.hint
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "accept", ["image/png", "image/png; palette=voc", "image/png; overlay=0.5", "application/x-npy; values=classes"]
)
def test_class_ids_alone_need_no_softmax(monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    done = segmented()
    monkeypatch.delattr(np, "exp")
    assert whole(accept, done)


def test_a_record_has_a_limit_of_its_own() -> None:
    answer_to("application/x-npy").check(254, 730, 730, limit=0)
    answer_to("application/x-protobuf; values=classes").check(254, 730, 730, limit=0)
    with pytest.raises(TooLargeError, match="RecordIO"):
        answer_to("application/x-protobuf").check(254, 730, 730, limit=0)


@pytest.mark.parametrize(
    ("accept", "compressible"),
    [
        ("image/png", False),
        ("image/png; palette=voc", False),
        ("image/png; overlay=1", False),
        ("application/x-protobuf", False),
        ("application/x-protobuf; values=confidence", True),
        ("application/x-protobuf; values=classes", True),
        ("application/x-npy", False),
        ("application/x-npy; dtype=float16", True),
        ("application/x-npy; dtype=uint8", True),
        ("application/x-npy; values=confidence; dtype=uint8", True),
        ("application/x-npy; values=classes; dtype=float32", True),
        ("application/json", True),
    ],
)
def test_gzip_is_for_all_but_png_and_float32_of_all_classes(accept: str, compressible: bool) -> None:
    assert answer_to(accept).compressible == compressible


def test_the_model_s_own_colours_show_its_classes() -> None:
    done = segmented(height=120, width=160)
    classes = Classes(("sky", "a", "b", "c", "d"), (0x010203, None, 0x800000, None, None))
    done = replace(done, model=replace(done.model, classes=classes))
    labels, colours = done.prediction.labels(), model_palette(classes)
    with Image.open(io.BytesIO(whole("image/png; palette=model", done))) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), labels)
        np.testing.assert_array_equal(np.array(mask.convert("RGB")), colours[labels])
    assert [entry["color"] for entry in json.loads(whole("application/json", done))["classes"]] == color_names(classes)
    blended = overlay(done.image, labels, colours, 0.3)
    with Image.open(io.BytesIO(whole("image/png; overlay=0.3; palette=model", done))) as image:
        np.testing.assert_array_equal(np.array(image), blended)
    draw_legend(blended, labels, classes.titles, colours)
    with Image.open(io.BytesIO(whole("image/png; overlay=0.3; palette=model; legend=true", done))) as image:
        np.testing.assert_array_equal(np.array(image), blended)
