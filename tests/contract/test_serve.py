"""A real `serve` process over HTTP; with a small network where the network does not matter."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serve_process import (
    CLASSES,
    EXACT,
    HEIGHT,
    NAMES,
    WIDTH,
    Server,
    assert_error,
    encode,
    serving,
    smooth_noise,
)

from semseg.codecs.media_types import IMAGE_TYPES, UNDECLARED_TYPES
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette
from semseg.engines.gluon import runtime
from semseg.inference.load import load_predictor
from semseg.inference.predictor import normalise
from semseg.serving.answers import OFFERS
from semseg.serving.openapi import description
from semseg.types import Float32, UInt8

CURL = "application/x-www-form-urlencoded"  # what curl declares unasked


def decode_record(record_class: Any, body: bytes) -> Float32:
    """As the AWS notebook: one record, its values in its shape, the first axis removed."""
    magic, length = struct.unpack("<II", body[:8])
    assert magic == 0xCED7230A
    assert len(body) == 8 + length + -length % 4
    record = record_class()
    record.ParseFromString(body[8 : 8 + length])
    shape = list(record.features["shape"].int32_tensor.values)
    assert shape == [1, CLASSES, HEIGHT, WIDTH]
    values = np.array(record.features["target"].float32_tensor.values, np.float32)
    return values.reshape(shape[1:])


def gluoncv_labels(file: Path, image: UInt8) -> UInt8:
    """The class of each pixel as plain GluonCV predicts it from a parameter file."""
    mx = runtime.load()
    from gluoncv import model_zoo  # once MXNet is loaded

    network = model_zoo.FCN(CLASSES, backbone="resnet50", pretrained_base=False)
    network.load_parameters(str(file))
    labels: UInt8 = network.predict(runtime.to_device(normalise(image), mx.cpu()))[0].asnumpy().argmax(axis=0)
    return labels


@pytest.fixture(scope="module")
def fcn_server(fcn_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of an FCN on ResNet-50 that cuts images of more than 65,536 pixels into tiles."""
    logs = tmp_path_factory.mktemp("logs")
    with serving(fcn_base, logs, SEMSEG_MAX_TILE_PIXELS="65536", SEMSEG_BACKEND="openvino", **EXACT) as server:
        yield server
    assert "Images of more than 65536 pixels are cut into tiles." in (logs / "stdout").read_text()


@pytest.mark.needs("mxnet")
@pytest.mark.req("R2", "R10", "R49", "R51", "R52", "R53")
def test_both_responses_agree_with_each_other_and_with_gluoncv(
    fcn_server: Server, fcn_base: Path, image: UInt8, record_class: Any
) -> None:
    status, headers, png = fcn_server.invoke(encode(image), Accept="image/png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    mask = Image.open(io.BytesIO(png))
    assert (mask.mode, mask.size) == ("L", (WIDTH, HEIGHT))
    labels = np.array(mask)

    status, headers, record = fcn_server.invoke(encode(image), Accept="application/x-recordio-protobuf")
    assert (status, headers["Content-Type"]) == (200, "application/x-recordio-protobuf")
    assert int(headers["Content-Length"]) == len(record)
    probabilities = decode_record(record_class, record)

    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), labels)
    oracle = gluoncv_labels(fcn_base / "model/model_best.params", image)
    assert len(np.unique(oracle)) > 1
    assert (labels == oracle).mean() >= 0.9999


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (140, 3)])
def test_masks_have_the_size_of_images_of_any_shape(fcn_server: Server, size: tuple[int, int]) -> None:
    status, _, png = fcn_server.invoke(encode(np.zeros((*size, 3), np.uint8)), Accept="image/png")
    assert status == 200
    assert np.array(Image.open(io.BytesIO(png))).shape == size


def test_large_images_are_cut_into_tiles(fcn_server: Server, fcn_base: Path) -> None:
    """The memory of a whole image would be twice that of a tile; the results differ little, at the edges of tiles."""
    large = smooth_noise(300, 411)
    status, _, png = fcn_server.invoke(encode(large), Accept="image/png")
    assert status == 200
    whole = load_predictor(fcn_base / "model", "openvino", "f32", 10**6).predictor.predict(large).labels()
    assert 0.9 < (np.array(Image.open(io.BytesIO(png))) == whole).mean() < 1


@pytest.mark.req("R19", "R50")
@pytest.mark.parametrize("declared", ["Image/JPEG; a=b", "application/x-image", "application/octet-stream", CURL, None])
def test_a_jpeg_without_accept_gets_probabilities(server: Server, image: UInt8, declared: str | None) -> None:
    headers = {"Content_Type": declared} if declared else {}
    status, answered, body = server.ask("POST", "/invocations", encode(image, "JPEG"), **headers)
    assert (status, answered["Content-Type"]) == (200, "application/x-recordio-protobuf")
    assert len(body) > 4 * CLASSES * HEIGHT * WIDTH


@pytest.mark.req("R49")
def test_media_types_are_negotiated(server: Server, image: UInt8) -> None:
    jpeg = encode(image, "JPEG")
    assert server.invoke(jpeg, Accept="application/x-protobuf")[1]["Content-Type"] == "application/x-protobuf"
    assert server.invoke(jpeg, Accept="text/html, image/*;q=0.5")[1]["Content-Type"] == "image/png"
    assert_error(server.invoke(jpeg, "text/csv"), 415, "text/csv", "image/jpeg")
    assert_error(server.invoke(jpeg, Accept="text/csv"), 406, "text/csv", "image/png")


def test_info_has_the_names_of_the_classes(server: Server) -> None:
    status, headers, body = server.ask("GET", "/info")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    info = json.loads(body)
    assert (info["algorithm"], info["backbone"], info["num_classes"]) == ("fcn", "resnet-50", CLASSES)
    assert info["classes"] == NAMES


def test_all_responses_agree(server: Server, image: UInt8, record_class: Any) -> None:
    def answer(accept: str, **headers: str) -> bytes:
        status, answered, body = server.invoke(encode(image), Accept=accept, **headers)
        assert (status, answered["Content-Type"]) == (200, accept.partition(";")[0])
        assert answered["Content-Encoding"] == ("gzip" if headers else None)
        return gzip.decompress(body) if headers else body

    def array(accept: str, **headers: str) -> Any:
        return np.load(io.BytesIO(answer(f"application/x-npy; {accept}", **headers)), allow_pickle=False)

    probabilities = decode_record(record_class, answer("application/x-recordio-protobuf"))
    labels = np.array(Image.open(io.BytesIO(answer("image/png"))))
    assert set(np.unique(labels)) == set(range(CLASSES))
    coloured = Image.open(io.BytesIO(answer("image/png; palette=voc")))
    assert coloured.mode == "P"
    np.testing.assert_array_equal(np.array(coloured), labels)
    blended = np.array(Image.open(io.BytesIO(answer("image/png; overlay=0.3"))))
    np.testing.assert_array_equal(blended, overlay(image, labels, palette("voc"), 0.3))
    np.testing.assert_array_equal(array("dtype=float32"), probabilities)
    np.testing.assert_array_equal(
        array("dtype=uint8", Accept_Encoding="gzip"), np.rint(probabilities * np.float32(255))
    )
    np.testing.assert_array_equal(array("values=classes", Accept_Encoding="gzip"), labels)
    ids, confidence = array("values=confidence; dtype=float16")
    np.testing.assert_array_equal(ids, labels)
    np.testing.assert_allclose(confidence, probabilities.max(axis=0), rtol=1e-3)
    classes = json.loads(answer("application/json; rle=true", Accept_Encoding="gzip"))["classes"]
    assert [entry["name"] for entry in classes] == NAMES
    regions = [np.repeat(np.arange(len(runs)) % 2, runs) for runs in (entry["rle"]["counts"] for entry in classes)]
    np.testing.assert_array_equal(np.argmax(regions, axis=0).reshape(HEIGHT, WIDTH, order="F"), labels)


def test_a_response_over_the_limit_is_refused_and_smaller_ones_are_named(server: Server) -> None:
    body = encode(np.zeros((230, 230, 3), np.uint8))
    assert_error(server.invoke(body), 413, f"{4 * CLASSES * 230 * 230:,}", "dtype=float16 or uint8", "image/png")
    assert server.invoke(body, Accept="application/x-npy; dtype=uint8")[0] == 200


SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3))
IMAGES = st.builds(lambda size, form: encode(np.zeros(size, np.uint8), form), SHAPES, st.sampled_from(["PNG", "JPEG"]))
DAMAGED = st.builds(lambda body, at: body[:at], IMAGES, st.integers(0, 400)) | st.binary(max_size=100)
for media_type in IMAGE_TYPES + UNDECLARED_TYPES[1:]:
    schemathesis.openapi.media_type(media_type, IMAGES | DAMAGED)


@st.composite
def accepts(draw: st.DrawFn) -> str:
    """Values of Accept: what is on offer, with right and wrong parameters."""
    ranges = []
    for media_type in draw(st.lists(st.sampled_from([*OFFERS, "*/*", "image/*", "text/html"]), min_size=1, max_size=3)):
        names = st.sampled_from(["values", "dtype", "palette", "overlay", "rle", "q"])
        words = st.sampled_from(["classes", "confidence", "uint8", "float16", "voc", "0.5", "1", "true", "none", ""])
        for name, word in draw(st.dictionaries(names, words, max_size=2)).items():
            media_type += f"; {name}={word}"
        ranges.append(media_type)
    return ", ".join(ranges)


api = schemathesis.openapi.from_dict(json.loads(description(OFFERS)))


@api.given(accept=accepts())
@api.parametrize()
@settings(max_examples=50)
def test_the_server_behaves_as_its_description_says(case: schemathesis.Case[Any], server: Server, accept: str) -> None:
    """Requests made from the description, valid and invalid: every response is one that it lists, none is a 5xx.

    A damaged image, or an Accept that cannot be met, does not violate the description and is refused all the same.
    """
    url = f"http://127.0.0.1:{server.port}"
    case.call_and_validate(base_url=url, headers={"Accept": accept}, excluded_checks=[positive_data_acceptance])


def test_a_body_sent_in_chunks_is_read_whole(server: Server, image: UInt8) -> None:
    body = encode(image)
    pieces = iter([body[start : start + 1000] for start in range(0, len(body), 1000)])
    assert server.invoke(pieces, Accept="image/png")[2] == server.invoke(body, Accept="image/png")[2]


def test_a_body_may_be_compressed_with_gzip(server: Server, image: UInt8) -> None:
    body = encode(image)
    packed = gzip.compress(body)
    pieces = iter([packed[start : start + 1000] for start in range(0, len(packed), 1000)])
    plain = server.invoke(body, Accept="image/png")[2]
    for sent in (packed, pieces):
        assert server.invoke(sent, Accept="image/png", Content_Encoding="gzip")[2] == plain
    bomb = gzip.compress(bytes(100 << 20))
    assert_error(server.invoke(bomb, Content_Encoding="gzip"), 413, "1,048,576")
    assert_error(server.invoke(body, Content_Encoding="gzip"), 400, "does not begin like gzip")
    refused = server.invoke(body, Content_Encoding="br")
    assert_error(refused, 415, "br", "gzip")
    assert refused[1]["Accept-Encoding"] == "gzip, identity"


def test_bad_images_are_refused(server: Server, image: UInt8) -> None:
    assert_error(server.invoke(b"no image"), 400)
    assert_error(server.invoke(encode(image, "JPEG")[:-300]), 400)
    assert_error(server.invoke(encode(np.zeros((200, 301, 3), np.uint8))), 413)
    assert server.invoke(b"")[::2] == (204, b"")


def test_a_body_declared_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    with closing(server.connect()) as connection:
        connection.putrequest("POST", "/invocations")
        connection.putheader("Content-Length", str(2**20 + 1))
        connection.endheaders()
        response = connection.getresponse()
        assert response.headers["Connection"] == "close"  # what comes next would be the body
        assert_error((response.status, response.headers, response.read()), 413, "1,048,576")


def test_a_body_sent_in_chunks_is_refused_over_the_limit(server: Server) -> None:
    answer = server.invoke(iter([bytes(105_000)] * 10))
    assert answer[1]["Connection"] == "close"
    assert_error(answer, 413, "1,048,576")


def test_a_connection_is_kept_when_the_body_was_read_or_is_small(server: Server, image: UInt8) -> None:
    for body, content_type in ((encode(image), "image/png"), (b"no image", "image/png"), (bytes(1000), "text/csv")):
        assert server.invoke(body, content_type)[1]["Connection"] == "keep-alive"


def test_the_platform_learns_how_to_send_batches(server: Server) -> None:
    _, _, body = server.ask("GET", "/execution-parameters")
    assert json.loads(body) == {"MaxConcurrentTransforms": 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}


def test_requests_at_the_same_time_get_their_own_answers(server: Server) -> None:
    images = [encode(np.full((8 + number, 9, 3), 20 * number, np.uint8)) for number in range(8)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda body: server.invoke(body, Accept="image/png"), images))
    assert [Image.open(io.BytesIO(body)).size for _, _, body in answers] == [(9, 8 + number) for number in range(8)]
