from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_backend import OnHost
from flask.testing import FlaskClient
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from readme import README
from werkzeug.test import TestResponse

from semseg.codecs.media_types import choice
from semseg.codecs.tensors import encode_probabilities
from semseg.errors import DeviceMemoryError
from semseg.inference.load import LoadedModel
from semseg.inference.scaling import Scale
from semseg.serving import app as app_module
from semseg.serving.answers import OFFERS, Answer, Offer, Segmented
from semseg.serving.app import create_app
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.settings import Settings
from semseg.types import Classes, Float32
from semseg.version import __version__

Loaded = Callable[..., LoadedModel]


class Channels(OnHost):
    """A network whose classes are the three channels."""

    def logits(self, images: Float32) -> Float32:
        return images[:, :, ::8, ::8]


SETTINGS = Settings(Path("/nowhere"), max_payload=100_000, max_pixels=5_000)


def encoded(size: tuple[int, int] = (30, 20), form: str = "PNG") -> bytes:
    """An encoded image of `size` (width, height), its left half green, its right half blue."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((0, 255, 0), (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def client_of(
    queue: PredictionQueue, settings: Settings = SETTINGS, memory: int = 10**9, offers: Mapping[str, Offer] = OFFERS
) -> FlaskClient:
    return create_app(queue, settings, MemoryBudget(memory), offers=offers).test_client()


@pytest.fixture
def client(model: LoadedModel) -> FlaskClient:
    return client_when_loaded(model)


def client_when_loaded(model: LoadedModel, offers: Mapping[str, Offer] = OFFERS) -> FlaskClient:
    queue = PredictionQueue(lambda: model, max_waiting=64)
    assert queue.description == model.description  # loaded
    return client_of(queue, memory=model.memory, offers=offers)


@pytest.fixture
def loading(model: LoadedModel) -> Iterator[FlaskClient]:
    """A server whose model does not finish loading during the test."""
    test_is_over = threading.Event()

    def load() -> LoadedModel:
        test_is_over.wait(60)
        return model

    yield client_of(PredictionQueue(load, max_waiting=64))
    test_is_over.set()


def assert_error(response: TestResponse, status: int, *words: str) -> None:
    assert response.status_code == status
    assert response.content_type == "application/json"
    assert len(response.data) < 2048
    assert response.json is not None
    assert set(response.json) == {"error", "hint"}
    assert all(word in response.text for word in words), response.text


def test_ping_is_empty_and_200_when_ready(client: FlaskClient) -> None:
    for response in (client.get("/ping"), client.post("/ping", data=b"x")):
        assert (response.status_code, response.data) == (200, b"")


def test_while_loading_every_route_of_the_model_says_so(loading: FlaskClient) -> None:
    assert_error(loading.get("/ping"), 503, "loading")
    assert_error(loading.get("/info"), 503, "loading")
    assert_error(loading.post("/invocations", data=encoded()), 503, "loading")


def test_media_types_are_settled_even_while_loading(loading: FlaskClient) -> None:
    assert_error(loading.post("/invocations", data=b"x", content_type="text/csv"), 415, "text/csv", "image/jpeg")
    assert_error(loading.post("/invocations", data=b"x", headers={"Accept": "text/csv"}), 406, "image/png")


@pytest.mark.req("R2", "R10", "R49", "R51")
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_image_png_is_the_class_of_each_pixel(client: FlaskClient, form: str) -> None:
    response = client.post("/invocations", data=encoded((32, 20), form), headers={"Accept": "image/png"})
    assert (response.status_code, response.content_type) == (200, "image/png")
    mask = Image.open(io.BytesIO(response.data))
    assert (mask.mode, mask.size) == ("L", (32, 20))
    assert set(np.array(mask)[:, :8].ravel()) == {1}
    assert set(np.array(mask)[:, 24:].ravel()) == {2}


@pytest.mark.req("R10", "R49", "R52", "R53")
@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, "application/x-recordio-protobuf"),
        ("*/*", "application/x-recordio-protobuf"),
        ("application/x-recordio-protobuf", "application/x-recordio-protobuf"),
        ("application/x-protobuf", "application/x-protobuf"),
    ],
)
def test_otherwise_it_is_the_record_of_all_probabilities(
    client: FlaskClient, model: LoadedModel, accept: str | None, answered: str
) -> None:
    body = encoded()
    response = client.post("/invocations", data=body, headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.content_type) == (200, answered)
    prediction = model.predictor.predict(np.array(Image.open(io.BytesIO(body))))
    assert response.data == b"".join(encode_probabilities(prediction.probabilities()))
    assert response.content_length == len(response.data)


@pytest.mark.req("R19", "R50")
@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "image/png",
        "application/x-image",
        "application/octet-stream",
        "image/jpg",
        "image/pjpeg",
        "image/x-png",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        None,
    ],
)
def test_the_bytes_not_the_content_type_decide_what_the_image_is(client: FlaskClient, content_type: str | None) -> None:
    for form in ("JPEG", "PNG"):
        assert client.post("/invocations", data=encoded(form=form), content_type=content_type).status_code == 200


def test_an_empty_body_is_answered_with_nothing(client: FlaskClient) -> None:
    response = client.post("/invocations", data=b"", content_type="image/jpeg")
    assert (response.status_code, response.data) == (204, b"")


@pytest.mark.parametrize(
    "body",
    [b"GIF89a", b"hello", encoded()[:70], encoded(form="JPEG")[:-400]],
    ids=["GIF", "text", "cut PNG", "cut JPEG"],
)
def test_what_is_no_whole_image_is_400(client: FlaskClient, body: bytes) -> None:
    assert_error(client.post("/invocations", data=body), 400)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (encoded(form="WEBP"), "a WebP file"),
        (encoded(form="TIFF"), "a TIFF file"),
        (b'{"instances": [{"b64": "/9j/4AAQ"}]}', "JSON text"),
        (base64.b64encode(encoded()), "the base64 text of an image"),
        (b"data:image/png;base64," + base64.b64encode(encoded()), "a data URI"),
        (b"--x\r\nContent-Type: image/png\r\n\r\n" + encoded() + b"\r\n--x--", "a multipart form"),
        (gzip.compress(encoded(), mtime=0), "gzip data"),
        (bytes(90_000), "a run of zero bytes"),
    ],
)
def test_what_is_no_image_is_400_and_named(client: FlaskClient, body: bytes, says: str) -> None:
    response = client.post("/invocations", data=body, content_type="application/octet-stream")
    assert_error(response, 400, f"This is {says}, neither JPEG nor PNG.")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (gzip.compress(encoded(), mtime=0), "Unpack it first. Or send it with Content-Encoding: gzip."),
        (
            b"--x\r\nContent-Type: image/png\r\n\r\n",
            "file itself. Or send it with its own Content-Type, as curl --form",
        ),
        (b"no image", "Give the JPEG or PNG file itself."),
    ],
)
def test_what_is_no_image_is_answered_with_what_a_request_may_do(client: FlaskClient, body: bytes, says: str) -> None:
    assert_error(client.post("/invocations", data=body), 400, says)


def test_an_image_may_be_the_file_of_a_form(client: FlaskClient) -> None:
    plain = client.post("/invocations", data=encoded())
    form = client.post("/invocations", data={"any name": (io.BytesIO(encoded()), "a.jpg")})
    assert (form.status_code, form.data) == (200, plain.data)
    both = {"image": (io.BytesIO(encoded()), "a.png"), "threshold": "0.5"}
    assert_error(client.post("/invocations", data=both), 400, "The field 'threshold' of the form is not a file.")
    assert_error(client.post("/invocations", data={"a": (io.BytesIO(b"GIF89a"), "a")}), 400, "This is a GIF file")
    assert_error(client.post("/invocations", data={"a": (io.BytesIO(bytes(200_000)), "a")}), 413, "100,000")
    assert_error(client.post("/invocations", data=b"x", content_type="multipart/form-data"), 400, "no boundary")
    assert_error(client.post("/invocations", data=b"x", content_type="multipart/mixed; boundary=b"), 415, "mixed")
    empty = client.post("/invocations", input_stream=io.BytesIO(), content_type="multipart/form-data; boundary=b")
    assert empty.status_code == 204


def test_a_form_may_be_compressed_with_gzip(client: FlaskClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=b"}
    packed = gzip.compress(head + encoded() + b"\r\n--b--\r\n")
    assert client.post("/invocations", data=packed, headers=headers).status_code == 200
    bomb = gzip.compress(head + bytes(10_000_000), mtime=0)
    assert_error(client.post("/invocations", data=bomb, headers=headers), 413, "100,000")


@pytest.mark.parametrize("coding", ["gzip", "X-GZIP", "identity, gzip"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_body_may_be_compressed_with_gzip(client: FlaskClient, coding: str, form: str) -> None:
    plain = client.post("/invocations", data=encoded(form=form))
    packed = gzip.compress(encoded(form=form))
    response = client.post("/invocations", data=packed, headers={"Content-Encoding": coding})
    assert (response.status_code, response.data) == (200, plain.data)


def test_a_body_without_coding_may_say_so(client: FlaskClient) -> None:
    assert client.post("/invocations", data=encoded(), headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("body", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_body_is_empty_in_gzip_too(client: FlaskClient, body: bytes) -> None:
    assert client.post("/invocations", data=body, headers={"Content-Encoding": "gzip"}).status_code == 204


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_another_coding_is_415_with_those_that_are_read_before_the_body_is(loading: FlaskClient, coding: str) -> None:
    body = io.BytesIO(encoded())
    headers = {"Content-Encoding": coding}
    response = loading.post("/invocations", input_stream=body, content_length=1000, headers=headers)
    assert_error(response, 415, coding, "gzip")
    assert response.headers["Accept-Encoding"] == "gzip, identity"
    assert body.tell() == 0
    assert "Accept-Encoding" not in loading.post("/invocations", data=b"x", content_type="text/csv").headers


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (encoded(), 400, "does not begin like gzip"),
        (gzip.compress(encoded(), mtime=0)[:-4], 400, "is cut short"),
        (gzip.compress(encoded(), mtime=0)[:-8] + bytes(8), 400, "is damaged"),
        (gzip.compress(encoded(), mtime=0) + b"more", 400, "has other data after its end"),
        (gzip.compress(b"hello", mtime=0), 400, "This is text, neither JPEG nor PNG."),
        (gzip.compress(gzip.compress(encoded(), mtime=0), mtime=0), 400, "This is gzip data"),
        (gzip.compress(bytes(100_001), mtime=0), 413, "100,000"),
        (gzip.compress(bytes(10 << 20), mtime=0), 413, "100,000"),
        (gzip.compress(b"", mtime=0) * 6000, 413, "100,000"),
        (gzip.compress(b"", mtime=0) * 4000, 400, "2,000 members"),
    ],
)
def test_gzip_that_is_unsound_or_too_large_is_refused(client: FlaskClient, body: bytes, status: int, says: str) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert_error(client.post("/invocations", data=body, headers=headers), status, says)
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert_error(client.post("/invocations", environ_overrides=environ, headers=headers), status, says)


def test_gzip_that_ends_before_its_declared_length_is_400(client: FlaskClient) -> None:
    packed = gzip.compress(encoded())
    environ = {"wsgi.input": io.BytesIO(packed), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(packed) + 9)}
    response = client.post("/invocations", environ_overrides=environ, headers={"Content-Encoding": "gzip"})
    assert_error(response, 400, f"{len(packed)} of {len(packed) + 9}")


def test_what_is_unpacked_counts_as_memory_of_bodies(loaded: Loaded) -> None:
    client = client_when_loaded(loaded(Channels(), memory=100_000))
    headers = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(encoded() + bytes(25_000))
    assert_error(client.post("/invocations", data=bomb, headers=headers), 413, "memory for bodies")
    sound = gzip.compress(encoded() + bytes(20_000))
    assert client.post("/invocations", data=sound, headers=headers).status_code == 200


def test_a_body_over_the_limit_is_413_without_being_read(client: FlaskClient) -> None:
    body = io.BytesIO(bytes(100_001))
    assert_error(client.post("/invocations", input_stream=body, content_length=100_001), 413, "100,000")
    assert body.tell() == 0


def test_a_chunked_body_over_the_limit_is_413_and_not_read_to_its_end(client: FlaskClient) -> None:
    body = io.BytesIO(bytes(10_000_000))
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert_error(client.post("/invocations", environ_overrides=environ), 413, "100,000")
    assert body.tell() == 100_001


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"5x\r\nhello", "chunk size: b'5x'"),
        (b"5;a\rb\r\nhello", "chunk extension"),
        (b"4\r\nhello\r\n", "chunk terminator"),
        (b"5\r\nhello\r\n0\r\n" + bytes(300_000), "trailer section size"),
        (b"5\r\nhello\r\n0\r\na: b\n\n", "bare LF"),
        (b"5\r\nhel", "before its end"),
    ],
)
def test_a_body_in_unsound_chunks_is_400(client: FlaskClient, sent: bytes, says: str) -> None:
    """Gunicorn's own reader finds the errors while the body is read."""
    body = Body(ChunkedReader(None, IterUnreader([sent])))
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert_error(client.post("/invocations", environ_overrides=environ), 400, says)


def test_a_body_of_exactly_the_limit_is_read(client: FlaskClient) -> None:
    body = encoded() + bytes(100_000)
    assert client.post("/invocations", data=body[:100_000]).status_code == 200


def test_an_image_of_too_many_pixels_is_413(client: FlaskClient) -> None:
    assert_error(client.post("/invocations", data=encoded((101, 50))), 413)
    assert client.post("/invocations", data=encoded((104, 48))).status_code == 200


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (7, 632), (105, 41)])
def test_the_sides_of_an_image_count_in_whole_cells_of_the_network(client: FlaskClient, size: tuple[int, int]) -> None:
    """A row of pixels counts as eight: none of these images has more than 5,000 pixels, but all count as more."""
    assert_error(client.post("/invocations", data=encoded(size)), 413, "multiples of 8", "SEMSEG_MAX_PIXELS")


@pytest.mark.parametrize("size", [(1, 624), (624, 1), (624, 8)])
def test_narrow_images_that_count_little_are_segmented(client: FlaskClient, size: tuple[int, int]) -> None:
    assert client.post("/invocations", data=encoded(size)).status_code == 200


def test_probabilities_beyond_one_record_are_413_before_the_network_runs(loaded: Loaded) -> None:
    class Unused(OnHost):
        def logits(self, images: Float32) -> Float32:
            assert images.shape[2:] == (64, 64), "more than the warm-up"
            return images[:, :, ::8, ::8]

    queue = PredictionQueue(lambda: loaded(Unused(), num_classes=254), max_waiting=64)
    assert queue.description.num_classes == 254
    roomy = client_of(queue, Settings(Path("/nowhere")))
    assert_error(roomy.post("/invocations", data=encoded((1000, 600))), 413, "image/png")


def test_what_will_never_fit_memory_is_413_for_the_answer_that_does_not(loaded: Loaded) -> None:
    """30 x 20 pixels, 100 classes: 8 kB for the image and the mask, 240 kB for the probabilities."""

    class Even(OnHost):
        def logits(self, images: Float32) -> Float32:
            return np.zeros((1, 100, *images[0, 0, ::8, ::8].shape), np.float32)

    client = client_when_loaded(loaded(Even(), num_classes=100, memory=100_000))
    assert client.post("/invocations", data=encoded(), headers={"Accept": "image/png"}).status_code == 200
    assert_error(client.post("/invocations", data=encoded()), 413, "memory", "image/png")


def test_a_gpu_s_want_of_memory_is_507_with_the_way_out_and_is_logged(
    loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(OnHost):
        def logits(self, images: Float32) -> Float32:
            if images.shape[2:] == (64, 64):  # the warm-up
                return images[:, :, ::8, ::8]
            raise DeviceMemoryError("The GPU's memory is too small.", "Set SEMSEG_MAX_TILE_PIXELS.")

    response = client_when_loaded(loaded(Full())).post("/invocations", data=encoded())
    assert_error(response, 507, "GPU", "SEMSEG_MAX_TILE_PIXELS")
    assert "The GPU's memory is too small. Set SEMSEG_MAX_TILE_PIXELS." in caplog.messages


def test_the_memory_of_an_answer_is_free_again_when_it_is_sent(loaded: Loaded) -> None:
    client = client_when_loaded(loaded(Channels(), memory=15_600))  # three quarters are just enough for one image
    for _ in range(3):
        with client.post("/invocations", data=encoded()) as response:
            assert len(response.data) > 30 * 20 * 3 * 4
        assert client.post("/invocations", data=encoded()[:-30]).status_code == 400


def test_an_answer_over_the_limit_is_413_before_the_network_runs(loaded: Loaded) -> None:
    class Unused(OnHost):
        def logits(self, images: Float32) -> Float32:
            assert images.shape[2:] == (64, 64), "more than the warm-up"
            return images[:, :, ::8, ::8]

    queue = PredictionQueue(lambda: loaded(Unused()), max_waiting=9)
    assert queue.description
    limited = client_of(queue, Settings(Path("/nowhere"), max_response=1 << 20))
    large = encoded((300, 300))
    assert_error(limited.post("/invocations", data=large), 413, "1,080,000", "1,048,576", "uint8", "image/png")


def test_the_limit_that_batch_transform_sets_for_requests_is_none_of_answers(loaded: Loaded) -> None:
    queue = PredictionQueue(lambda: loaded(Channels()), max_waiting=9)
    assert queue.description
    batch = client_of(queue, Settings.from_environment({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}))
    response = batch.post("/invocations", data=encoded((300, 300)))
    assert (response.status_code, len(response.data) > 1 << 20) == (200, True)


@pytest.mark.parametrize(
    ("accept", "encodings", "packed"),
    [
        ("application/json", "gzip", True),
        ("application/json", "br, gzip;q=0.5", True),
        ("application/json", "gzip;q=0", False),
        ("application/json", "x-gzip", True),
        ("application/json", "gzip;q=0, *", False),
        ("application/json", "gzip," * 100_000, False),
        ("application/json", "identity", False),
        ("application/json", None, False),
        ("application/x-npy; dtype=uint8", "gzip, deflate", True),
        ("application/x-protobuf; values=classes", "gzip", True),
        ("application/x-protobuf", "gzip", False),
        ("image/png", "gzip", False),
    ],
)
def test_gzip_is_for_clients_that_ask_for_it(
    client: FlaskClient, accept: str, encodings: str | None, packed: bool
) -> None:
    plain = client.post("/invocations", data=encoded(), headers={"Accept": accept})
    headers = {"Accept": accept} | ({"Accept-Encoding": encodings} if encodings else {})
    response = client.post("/invocations", data=encoded(), headers=headers)
    assert response.content_type == plain.content_type == accept.partition(";")[0]
    assert response.content_encoding == ("gzip" if packed else None)
    assert (gzip.decompress(response.data) if packed else response.data) == plain.data
    assert response.content_length == (None if packed else len(plain.data))


def test_the_classes_have_the_names_of_the_model(model: LoadedModel) -> None:
    description = dataclasses.replace(model.description, classes=Classes(("red", "green", "blue"), (None,) * 3))
    client = client_when_loaded(dataclasses.replace(model, description=description))
    reported = client.post("/invocations", data=encoded((32, 20)), headers={"Accept": "application/json"}).json
    assert reported
    assert [(entry["name"], entry["pixels"]) for entry in reported["classes"]] == [
        ("red", 0),
        ("green", 320),
        ("blue", 320),
    ]


def test_a_media_type_more_on_offer_is_answered_and_described(model: LoadedModel) -> None:
    def text(media_type: str, parameters: Mapping[str, str]) -> Answer:
        def encode(done: Segmented) -> list[bytes]:
            return [parameters["mark"].encode(), done.prediction.labels()[0].tobytes()]

        return Answer(media_type, encode, memory=lambda _: 1)

    parameters = {"mark": choice("<", ">", default=">")}
    row = Offer(parameters, text, {"description": "The ids of the first row."})
    queue = PredictionQueue(lambda: model, max_waiting=9)
    assert queue.description
    client = create_app(queue, SETTINGS, MemoryBudget(), offers={**OFFERS, "application/x-row": row}).test_client()
    response = client.post("/invocations", data=encoded((4, 4)), headers={"Accept": "application/x-row"})
    assert (response.content_type, response.data) == ("application/x-row", b">\1\1\1\1")
    response = client.post("/invocations", data=encoded((4, 4)), headers={"Accept": "application/x-row; mark=<"})
    assert (response.status_code, response.data[:1]) == (200, b"<")
    described = client.get("/openapi.json").json
    assert described
    assert described["paths"]["/invocations"]["post"]["responses"]["200"]["content"]["application/x-row"] == {
        "schema": {"description": "The ids of the first row."},
        "x-accept-parameters": {"mark": {"enum": ["<", ">"], "default": ">"}},
    }


def test_a_parameter_that_is_not_on_offer_is_406_with_what_is(client: FlaskClient) -> None:
    response = client.post("/invocations", data=encoded(), headers={"Accept": "image/png; palette=rainbow"})
    assert_error(response, 406, "rainbow", "voc|ade20k|cityscapes")


def test_a_body_that_ends_early_is_400(client: FlaskClient) -> None:
    environ = {"wsgi.input": io.BytesIO(b"x" * 10), "wsgi.input_terminated": True, "CONTENT_LENGTH": "20"}
    assert_error(client.post("/invocations", environ_overrides=environ), 400, "10 of 20")


def test_a_body_that_stalls_is_400(client: FlaskClient) -> None:
    class Stalled(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise ConnectionResetError("The client stalls.")

    environ = {"wsgi.input": Stalled(), "wsgi.input_terminated": True, "CONTENT_LENGTH": "20"}
    assert_error(client.post("/invocations", environ_overrides=environ), 400, "stopped")


def test_a_defect_is_500_without_its_details_and_in_the_log(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(OnHost):
        def logits(self, images: Float32) -> Float32:
            if images.shape[2:] != (64, 64):
                raise RuntimeError("secret")
            return images[:, :, ::8, ::8]

    client = client_when_loaded(loaded(Broken()))
    with caplog.at_level(logging.ERROR):
        response = client.post("/invocations", data=encoded())
    assert_error(response, 500, "RuntimeError")
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("where", ["network", "encode"])
def test_a_lack_of_the_host_s_memory_is_507_and_in_the_log(
    loaded: Loaded, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory that was free while the model was loaded has gone to another process."""

    def too_much(_: Segmented | None = None) -> list[bytes]:
        raise MemoryError("Unable to allocate 9 GiB")

    class Large(OnHost):
        def logits(self, images: Float32) -> Float32:
            if where == "network" and images.shape[2:] != (64, 64):
                too_much()
            return images[:, :, ::8, ::8]

    encode = too_much if where == "encode" else lambda _: [b"answer"]
    offers = {"image/x-large": Offer({}, lambda media_type, _: Answer(media_type, encode, lambda _: 1), {})}
    client = client_when_loaded(loaded(Large()), offers=offers)
    with caplog.at_level(logging.ERROR):
        response = client.post("/invocations", data=encoded())
    assert_error(response, 507, "The machine's memory is too small", "Send a smaller image")
    (line,) = caplog.messages
    assert line == "The machine's memory is too small for POST /invocations: Unable to allocate 9 GiB"


@pytest.mark.parametrize("accept", ["application/json", "image/png", "application/x-npy"])
def test_what_the_network_computes_of_no_numbers_is_never_answered_but_500_and_in_the_log(
    loaded: Loaded, accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Overflows(OnHost):
        """Computes infinite values for requests, but not in the warm-up."""

        def logits(self, images: Float32) -> Float32:
            return images[:, :, ::8, ::8] * np.float32(1 if images.shape[2:] == (64, 64) else np.inf)

    client = client_when_loaded(loaded(Overflows()))
    with caplog.at_level(logging.ERROR):
        response = client.post("/invocations", data=encoded(), headers={"Accept": accept})
    assert_error(response, 500, "infinite or NaN")
    assert "infinite or NaN" in caplog.text


def test_a_client_that_has_left_is_answered_no_more(model: LoadedModel) -> None:
    queue, asked = PredictionQueue(lambda: model, max_waiting=64), list[str]()
    assert queue.description

    def left(environ: Mapping[str, Any]) -> bool:
        asked.append(environ["PATH_INFO"])
        return len(asked) == leaves_at

    for leaves_at in (1, 2, 3):  # before its image is decoded, before it is segmented, before its answer is made
        asked.clear()
        client = create_app(queue, SETTINGS, MemoryBudget(), left).test_client()
        response = client.post("/invocations", data=encoded())
        assert_error(response, 499, "closed the connection")
        response.close()
        assert asked == ["/invocations"] * leaves_at
        assert numbers(client)["semseg_requests_total['/invocations', '499']"] == 1


@pytest.mark.parametrize("path", ["/ping", "/invocations", "/metrics"])
def test_every_request_asks_whether_the_model_is_stuck(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    queue, asked = PredictionQueue(lambda: model, max_waiting=64), list[str]()
    monkeypatch.setattr(queue, "report_if_stuck", lambda: asked.append(path))
    client_of(queue).get(path)
    assert asked == [path]


def test_other_paths_and_methods_are_json_errors_too(client: FlaskClient) -> None:
    assert_error(client.get("/models"), 404, "/models", "POST /invocations", "/openapi.json")
    assert_error(client.get("/" + "x" * 5000), 404)
    response = client.get("/invocations")
    assert_error(response, 405, "GET /invocations", "POST /invocations")
    assert "POST" in response.headers["Allow"]


@given(st.text(min_size=1, max_size=3000), st.text(max_size=3000))
def test_every_error_fits_what_the_platform_passes_on(message: str, hint: str) -> None:
    body = app_module._error(400, message, hint).get_data()
    assert len(body) < 2048
    assert message.startswith(json.loads(body)["error"])


@pytest.mark.parametrize(
    ("workers", "limit", "reported"),
    [(1, 6 << 20, 6), (1, 100 << 20, 100), (1, 1024 << 20, 100), (3, 6 << 20, 6), (3, 100 << 20, 33), (64, 6 << 20, 1)],
)
def test_execution_parameters_are_for_one_image_at_a_time_in_each_process(
    model: LoadedModel, workers: int, limit: int, reported: int
) -> None:
    """The platform allows up to 100 MB for all concurrent requests together."""
    settings = Settings(Path("/nowhere"), workers=workers, max_payload=limit)
    client = client_of(PredictionQueue(lambda: model, max_waiting=64), settings)
    assert client.get("/execution-parameters").json == {
        "MaxConcurrentTransforms": workers,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": reported,
    }


def test_the_readme_shows_the_execution_parameters(model: LoadedModel) -> None:
    """The README shows those of a server with default settings."""
    client = client_of(PredictionQueue(lambda: model, max_waiting=0), Settings(Path("/nowhere")))
    assert f"| `GET /execution-parameters` | `{client.get('/execution-parameters').text}`" in README


@pytest.mark.parametrize(("crop_size", "names"), [(240, ("background", "scratch", "öl")), (None, None)])
def test_info_says_what_is_served_and_null_where_that_is_unknown(
    model: LoadedModel, crop_size: int | None, names: tuple[str, ...] | None
) -> None:
    classes = Classes(names or (None,) * 3, (0x2CA02C, None, None))
    description = dataclasses.replace(model.description, crop_size=crop_size, base_size=200, classes=classes)
    served = dataclasses.replace(model, description=description, engine="openvino", precision="bf16")
    response = client_when_loaded(served).get("/info")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.json == {
        "algorithm": "fcn",
        "backbone": "resnet-50",
        "num_classes": 3,
        "crop_size": crop_size,
        "base_size": 200,
        "scale": "none",
        "classes": list(names) if names else None,
        "colors": ["#2ca02c", "#800000", "#008000"],
        "engine": "openvino",
        "precision": "bf16",
        "version": __version__,
    }


def test_a_full_queue_is_503_with_the_time_to_come_again_before_the_body_is_read(model: LoadedModel) -> None:
    queue = PredictionQueue(lambda: model, max_waiting=0)
    assert queue.description
    client, body = client_of(queue), io.BytesIO(encoded())
    with queue.place():
        response = client.post("/invocations", input_stream=body, content_length=1000)
    assert_error(response, 503, "SEMSEG_QUEUE")
    assert response.headers["Retry-After"] == "1"
    assert body.tell() == 0
    assert client.post("/invocations", data=encoded()).status_code == 200


def test_bodies_have_a_quarter_of_the_memory(loaded: Loaded) -> None:
    client = client_when_loaded(loaded(Channels(), memory=100_000))
    assert_error(client.post("/invocations", data=encoded() + bytes(25_000)), 413, "memory for bodies")
    assert client.post("/invocations", data=encoded() + bytes(20_000)).status_code == 200


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("trace-id=7 a", "trace-id=7 a"), ("\xe4b\x01c", "bc"), ("x" * 2000, "x" * 1024), ("\xff", None), (None, None)],
)
@pytest.mark.parametrize("path", ["/invocations", "/nowhere"])
def test_custom_attributes_come_back_without_what_could_forge_a_header(
    client: FlaskClient, path: str, given: str | None, echoed: str | None
) -> None:
    name = "X-Amzn-SageMaker-Custom-Attributes"
    environ = {} if given is None else {"HTTP_" + name.upper().replace("-", "_"): given}
    assert client.post(path, data=encoded(), environ_overrides=environ).headers.get(name) == echoed


def numbers(client: FlaskClient) -> dict[str, float]:
    """What /metrics reports, by name and labels."""
    response = client.get("/metrics")
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
    return {f"{one.name}{sorted(one.labels.values())}": one.value for one in found}


def test_metrics_count_answers_by_path_and_status_stages_and_megapixels(client: FlaskClient) -> None:
    for body in (encoded(), encoded(), b"no image"):
        client.post("/invocations", data=body, headers={"Accept": "image/png"}).close()
    client.get("/ping").close()
    client.get("/of/a/scanner").close()
    client.get("/invocations").close()
    reported = numbers(client)
    assert reported["semseg_requests_total['/invocations', '200']"] == 2
    assert reported["semseg_requests_total['/invocations', '400']"] == 1
    assert reported["semseg_requests_total['/invocations', '405']"] == 1
    assert reported["semseg_requests_total['/ping', '200']"] == 1
    assert reported["semseg_requests_total['404', 'other']"] == 1
    assert reported["semseg_megapixels_total[]"] == pytest.approx(2 * 30 * 20 / 1e6)
    for stage, count in (("receive", 3), ("wait", 2), ("decode", 2), ("network", 2), ("encode", 2), ("send", 4)):
        assert reported[f"semseg_stage_seconds_count['{stage}']"] == count
    assert reported[f"semseg_model_info{sorted(['fcn', 'resnet-50', '3', __version__])}"] == 1
    assert 10e6 < reported["semseg_resident_memory_bytes[]"] < 100e9
    assert reported["semseg_in_flight[]"] == reported["semseg_queue[]"] == 0


def test_metrics_count_requests_in_flight(loaded: Loaded) -> None:
    class Asks(OnHost):
        """Requests the metrics while it segments an image."""

        def logits(self, images: Float32) -> Float32:
            if images.shape[2:] != (64, 64):
                reported.update(numbers(client))
            return images[:, :, ::8, ::8]

    reported: dict[str, float] = {}
    client = client_when_loaded(loaded(Asks()))
    assert client.post("/invocations", data=encoded()).status_code == 200
    assert reported["semseg_in_flight[]"] == reported["semseg_queue[]"] == 1


def logged(model: LoadedModel, log: str, caplog: pytest.LogCaptureFixture, **headers: str) -> list[str]:
    """The log lines of a valid image, an invalid one, and a ping."""
    queue = PredictionQueue(lambda: model, max_waiting=64)
    assert queue.description
    client = client_of(queue, dataclasses.replace(SETTINGS, request_log=log))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for body in (encoded(), b"no image"):
            answer = client.post("/invocations", data=body, headers=headers)
            headers["X-Request-Id"] = answer.headers["X-Request-Id"]
            answer.close()
        client.get("/ping").close()
    return caplog.messages


@pytest.mark.parametrize("log", ["auto", "metrics"])
def test_an_invocation_is_logged_as_the_built_in_algorithm_does(
    log: str, model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    lines = logged(model, log, caplog)
    assert len(lines) == 2
    reported = json.loads(lines[0].removeprefix("#metrics "))
    assert reported["Metrics"] == {"invocations.count": {"sum": 1.0, "count": 1, "min": 1.0, "max": 1.0}}
    dimensions = {"Host": "UNKNOWN", "Operation": "scoring", "Algorithm": "SemanticSegmentationModel"}
    assert reported["Dimensions"] == dimensions
    assert reported["StartTime"] <= reported["EndTime"] <= reported["StartTime"] + 1000


def test_an_invocation_can_be_logged_as_json_with_its_ids(model: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"X-Amzn-SageMaker-Inference-Id": "order-66"}
    good, bad = map(json.loads, logged(model, "json", caplog, **headers))
    assert (good["status"], bad["status"]) == (200, 400)
    assert good["inference_id"] == bad["inference_id"] == "order-66"
    assert len({good["request_id"], bad["request_id"]}) == 2
    assert (good["size"], bad["size"]) == ([30, 20], None)
    assert good["received_bytes"] == len(encoded())
    assert list(good["stages"]) == ["receive", "wait", "decode", "network", "encode", "send"]
    assert sum(good["stages"].values()) <= good["seconds"]


def test_an_invocation_can_be_logged_in_a_few_words_for_people(
    model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = logged(model, "short", caplog, Accept="image/png")
    assert re.fullmatch(r"200  image/png  30 x 20  \d+ ms", good)
    assert re.fullmatch(r"400  \d+ ms", bad)


def test_the_log_of_invocations_can_be_left_out(model: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    assert logged(model, "none", caplog) == []


class Halves(OnHost):
    """A network whose class is 1 where its input is bluer than green, else 0; it records the sizes of its input."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def logits(self, images: Float32) -> Float32:
        self.sizes.append(images.shape[2:])
        bluer = images[:, 2:, ::8, ::8] - images[:, 1:2, ::8, ::8]
        return np.concatenate([-bluer, bluer], axis=1)


@pytest.mark.parametrize(
    ("accept", "seen"),
    [
        ("image/png", (40, 64)),
        ("image/png; scale=none", (40, 64)),
        ("image/png; scale=base", (20, 32)),
        ("image/png; scale=0.25; palette=voc", (10, 16)),
        ("application/x-npy; scale=1.25; values=classes", (50, 80)),
    ],
)
def test_a_request_may_set_the_size_at_which_the_network_gets_its_image(
    loaded: Loaded, accept: str, seen: tuple[int, int]
) -> None:
    network = Halves()
    model = loaded(network, num_classes=2)
    description = dataclasses.replace(model.description, base_size=32)
    client = client_when_loaded(dataclasses.replace(model, description=description))
    response = client.post("/invocations", data=encoded((64, 40)), headers={"Accept": accept})
    assert response.status_code == 200, response.text
    assert network.sizes[-1] == seen
    if accept.startswith("image/png"):
        labels = np.array(Image.open(io.BytesIO(response.data)))
    else:
        labels = np.load(io.BytesIO(response.data))
    assert labels.shape == (40, 64)
    assert (labels[:, :24] == 0).all()
    assert (labels[:, 40:] == 1).all()


def test_the_size_of_the_network_s_input_may_be_the_model_s(loaded: Loaded) -> None:
    network = Halves()
    model = loaded(network, num_classes=2)
    model.predictor.scale = Scale(long_side=32)
    client = client_when_loaded(model)
    assert client.post("/invocations", data=encoded((64, 40)), headers={"Accept": "image/png"}).status_code == 200
    assert network.sizes[-1] == (20, 32)
    info = client.get("/info").json
    assert info
    assert info["scale"] == "base"
    client.post("/invocations", data=encoded((64, 40)), headers={"Accept": "image/png; scale=none"})
    assert network.sizes[-1] == (40, 64)


def test_a_size_that_the_model_does_not_know_or_nobody_can_is_406(client: FlaskClient) -> None:
    for value, word in (("base", "base_size"), ("half", "0.05 to 4"), ("0.04", "0.05 to 4"), ("4.1", "0.05 to 4")):
        response = client.post("/invocations", data=encoded(), headers={"Accept": f"image/png; scale={value}"})
        assert_error(response, 406, word)


def test_an_image_that_is_too_large_once_it_is_enlarged_is_413(client: FlaskClient) -> None:
    response = client.post("/invocations", data=encoded((60, 40)), headers={"Accept": "image/png; scale=2"})
    assert_error(response, 413, "60 x 40 pixels, resized to 120 x 80, counts as 9,600, more than the 5,000")
    response = client.post("/invocations", data=encoded((1, 600)), headers={"Accept": "image/png; scale=0.5"})
    assert response.status_code == 200  # 4,800 pixels at its own size, as sides are rounded up


def test_the_memory_of_enlarging_is_counted(loaded: Loaded) -> None:
    client = client_when_loaded(loaded(Halves(), num_classes=2, memory=90_000))
    for scale, status in (("1", 200), ("1.3", 413)):
        accept = {"Accept": f"image/png; scale={scale}"}
        assert client.post("/invocations", data=encoded((60, 40)), headers=accept).status_code == status
