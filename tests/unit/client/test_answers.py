from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fake_endpoint import CLASSES, probabilities_of

from semseg.client.answers import decode, wanted
from semseg.client.segmentation import Segmentation
from semseg.client.sources import load
from semseg.codecs.images import encode_image
from semseg.codecs.masks import encode_mask
from semseg.codecs.npy import encode_npy
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette
from semseg.codecs.summary import encode_summary
from semseg.codecs.tensors import encode_classes, encode_probabilities
from semseg.errors import NotAcceptableError, ServerError, UserError
from semseg.serving.answers import OFFERS
from semseg.types import UInt8


def segmentation(image: UInt8, body: Any, accept: str) -> Segmentation:
    source, asked = load(image), wanted(accept)
    return Segmentation(source, decode(b"".join(body), asked.media_type, asked, source.size))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_probabilities_of_all_forms(image: UInt8, dtype: str) -> None:
    exact = probabilities_of(image)
    sent = np.rint(exact * 255).astype(dtype) if dtype == "uint8" else exact.astype(dtype)
    found = segmentation(image, encode_npy(sent), f"application/x-npy; dtype={dtype}")
    expected = sent / np.float32(255) if dtype == "uint8" else sent.astype(np.float32)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.probabilities, expected)
    np.testing.assert_array_equal(found.mask, expected.argmax(axis=0))
    np.testing.assert_array_equal(found.confidence, expected.max(axis=0))
    assert found.mask.dtype == np.uint8
    assert found.size == (11, 17)


@pytest.mark.parametrize("name", ["application/x-recordio-protobuf", "application/x-protobuf"])
def test_records_give_float32_exactly(image: UInt8, name: str) -> None:
    found = segmentation(image, encode_probabilities(probabilities_of(image)), name)
    np.testing.assert_array_equal(found.probabilities, probabilities_of(image))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_class_ids_with_their_confidence(image: UInt8, dtype: str) -> None:
    exact = probabilities_of(image)
    ids, best = exact.argmax(axis=0).astype(np.uint8), exact.max(axis=0)
    scale = np.float32(255 if dtype == "uint8" else 1)
    sent = np.stack([ids, np.rint(best * 255) if dtype == "uint8" else best]).astype(dtype)
    by_array = segmentation(image, encode_npy(sent), f"application/x-npy; values=confidence; dtype={dtype}")
    by_record = segmentation(image, encode_classes(ids, best), "application/x-recordio-protobuf; values=confidence")
    np.testing.assert_array_equal(by_array.confidence, sent[1].astype(np.float32) / scale)
    np.testing.assert_array_equal(by_record.confidence, best)
    for found in (by_array, by_record):
        np.testing.assert_array_equal(found.mask, ids)
        with pytest.raises(UserError, match=r"has no probabilities. Ask for application/x-recordio-protobuf"):
            _ = found.probabilities


def test_masks_of_all_forms(image: UInt8) -> None:
    exact = probabilities_of(image)
    ids = exact.argmax(axis=0).astype(np.uint8)
    for body, accept in [
        ([encode_mask(ids)], "image/png"),
        ([encode_mask(ids, palette("voc"))], 'IMAGE/PNG; palette="voc"'),
        (encode_npy(ids), "application/x-npy; values=classes"),
        (encode_classes(ids), "application/x-protobuf;values=classes"),
        (encode_summary(ids, exact.max(axis=0), [None] * CLASSES, True), "application/json; rle=true"),
    ]:
        found = segmentation(image, body, accept)
        np.testing.assert_array_equal(found.mask, ids)
        assert found.mask.dtype == np.uint8
        np.testing.assert_array_equal(found.colours("ade20k"), palette("ade20k")[ids])
        np.testing.assert_array_equal(found.overlay(0.3), overlay(image, ids, palette("voc"), 0.3))
        with pytest.raises(UserError, match=r"has no confidence. Ask for application/x-npy; values=confidence"):
            _ = found.confidence


def test_summaries(image: UInt8) -> None:
    exact = probabilities_of(image)
    ids = exact.argmax(axis=0).astype(np.uint8)
    body = encode_summary(ids, exact.max(axis=0), ["red", "green", "blue"], False)
    found = segmentation(image, body, "application/json")
    assert [entry["name"] for entry in found.summary["classes"]] == ["red", "green", "blue"]
    with pytest.raises(UserError, match=r"has no mask. Ask for image/png, or for application/json; rle=true"):
        _ = found.mask
    with pytest.raises(UserError, match=r"has no summary"):
        _ = segmentation(image, [encode_mask(ids)], "image/png").summary


def test_the_colours_of_a_response_are_kept(image: UInt8) -> None:
    exact = probabilities_of(image)
    ids = exact.argmax(axis=0).astype(np.uint8)
    colours = palette("ade20k")
    names = [f"#{colour.tobytes().hex()}" for colour in colours[:CLASSES]]
    summary = encode_summary(ids, exact.max(axis=0), [None] * CLASSES, True, names)
    for body, accept in (
        ([encode_mask(ids, colours)], "image/png; palette=model"),
        (summary, "application/json; rle=true"),
    ):
        found = segmentation(image, body, accept)
        np.testing.assert_array_equal(found.colours(), colours[ids])
        np.testing.assert_array_equal(found.overlay(0.3), overlay(image, ids, colours, 0.3))
        np.testing.assert_array_equal(found.colours("voc"), palette("voc")[ids])
        with pytest.raises(UserError, match=r"'none' is not a palette\. Give one of voc, ade20k"):
            found.colours("none")
    plain = segmentation(image, [encode_mask(ids)], "image/png")
    np.testing.assert_array_equal(plain.colours(), palette("voc")[ids])


def test_all_media_types_on_offer_can_be_asked_for() -> None:
    for media_type in OFFERS:
        assert wanted(media_type).media_type == media_type


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "image/png, application/json", "image/png; overlay=0.5", "image/png; legend=true"],
)
def test_other_media_types_are_an_error(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"cannot be decoded here.*application/x-npy"):
        wanted(accept)


PROBABILITIES = np.full((3, 11, 17), 1 / 3, np.float32)
RUNS = json.dumps({"height": 11, "width": 17, "classes": [{"id": 0, "rle": {"counts": [0, 187]}}]})


@pytest.mark.parametrize(
    ("accept", "body", "message"),
    [
        ("image/png", b"<!doctype html>", "This is an HTML page, neither JPEG nor PNG"),
        ("image/png", encode_image(np.full((11, 17, 3), [1, 2, 3], np.uint8)), "has mode RGB and colours"),
        ("image/png", encode_mask(np.zeros((17, 11), np.uint8)), "It is for 11 x 17 pixels, not 17 x 11"),
        ("application/x-npy", b"".join(encode_npy(PROBABILITIES[:, 1:])), "It is for 17 x 10 pixels, not 17 x 11"),
        ("application/x-npy", b"".join(encode_npy(PROBABILITIES[0])), "probabilities in 2 dimensions"),
        ("application/x-npy; values=classes", b"".join(encode_npy(PROBABILITIES)), "no class ids of 0 to 255"),
        ("application/x-npy; values=classes", b"".join(encode_npy(PROBABILITIES[0] * 900)), "no class ids of 0 to 255"),
        ("application/x-npy; values=confidence", b"".join(encode_npy(PROBABILITIES)), r"the shape \(3, 11, 17\)"),
        ("application/x-npy", b"\x93NUMPY", "It is not a .npy file"),
        ("application/x-protobuf", b"", "It is empty"),
        ("application/x-protobuf", b"\x89PNG" * 9, "not RecordIO's magic number"),
        ("application/x-protobuf", b"".join(encode_probabilities(PROBABILITIES))[:-8], "is cut short"),
        ("application/json", b"{", "not the JSON object"),
        ("application/json", b"[]", "not the JSON object"),
        ("application/json", b"[" * 10**5, "not the JSON object"),
        ("application/json", b'{"height": 11, "width": 17, "classes": [3]}', "not the JSON object"),
        ("application/json", b'{"height": 12, "width": 17, "classes": [{}]}', "is for 17 x 12 pixels, not 17 x 11"),
        ("application/json", RUNS.replace('"id": 0', '"id": 0, "color": "red"').encode(), "not the JSON object"),
        ("application/json", RUNS.replace('"id": 0', '"id": 999, "color": "#000000"').encode(), "not the JSON object"),
        ("application/json", RUNS.replace('"id": 0', '"id": 300').encode(), "a class beyond 0 to 255"),
        ("application/json", RUNS.replace("187", "186").encode(), "do not cover each of 17 x 11 pixels"),
        ("application/json", RUNS.replace("187", "9" * 30).encode(), "not the JSON object"),
        ("application/json", RUNS.replace("187", '"a"').encode(), "not the JSON object"),
        ("application/json", RUNS.replace("11", "1" * 30).encode(), "is for an image of a size that no image has"),
        ("application/json", b'{"height": 1, "width": ' + 4000 * b"9" + b', "classes": [{}]}', "that no image has"),
    ],
)
def test_a_response_that_is_not_what_was_asked_for_is_an_error(accept: str, body: bytes, message: str) -> None:
    asked = wanted(accept)
    with pytest.raises(ServerError, match=message):
        decode(body, asked.media_type, asked, (11, 17))


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "image/png; charset=utf-8", "Image/PNG"])
def test_a_content_type_that_says_nothing_does_not_matter(content_type: str) -> None:
    ids = np.ones((11, 17), np.uint8)
    answer = decode(encode_mask(ids), content_type, wanted("image/png"), (11, 17))
    assert answer.mask is not None
    np.testing.assert_array_equal(answer.mask, ids)


def test_another_type_of_response_is_decoded_as_what_it_is() -> None:
    ids = np.ones((11, 17), np.uint8)
    answer = decode(encode_mask(ids), "image/png", wanted("application/x-npy"), (11, 17))
    assert answer.mask is not None
    np.testing.assert_array_equal(answer.mask, ids)


def test_without_the_image_the_overlay_needs_it(image: UInt8) -> None:
    ids = np.ones((11, 17), np.uint8)
    found = Segmentation(None, decode(encode_mask(ids), "image/png", wanted("image/png")))
    np.testing.assert_array_equal(found.overlay(image=image), overlay(image, ids, palette("voc")))
    for other in (None, image[1:]):
        with pytest.raises(UserError, match="The image is missing, or of another size"):
            found.overlay(image=other)
