from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from fake_endpoint import Asked, FakeRuntime, FakeServer, Response, encoded, model_answers, probabilities_of

from semseg.client import Client, Segmentation, retries
from semseg.client.calls import PLATFORM_LIMIT, Oversize
from semseg.codecs.image_like import ImageLike
from semseg.codecs.masks import encode_mask
from semseg.codecs.summary import encode_summary
from semseg.errors import BusyError, ImageError, NotAcceptableError, SemsegError, TooLargeError, UserError
from semseg.types import UInt8


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def smooth(height: int, width: int) -> UInt8:
    rows, columns = np.mgrid[:height, :width]
    pixels: UInt8 = np.stack([rows % 251, columns % 251, (rows + columns) % 251], axis=-1).astype(np.uint8)
    return pixels


def test_a_server_and_an_endpoint_give_the_same(client: Client, runtime: FakeRuntime, image: UInt8) -> None:
    for each in (client, Client(runtime, "cats")):
        found = each.predict(image)
        np.testing.assert_array_equal(found.probabilities, probabilities_of(image))
        np.testing.assert_array_equal(found.mask, probabilities_of(image).argmax(axis=0))
        np.testing.assert_array_equal(each.predict(image, accept="image/png").mask, found.mask)


def test_arguments_that_do_not_go_together_are_an_error(runtime: FakeRuntime) -> None:
    with pytest.raises(UserError, match="name of the endpoint is missing"):
        Client(runtime, "")
    with pytest.raises(UserError, match="An address and an endpoint's name"):
        Client("http://localhost", "cats")  # type: ignore[call-overload]


def test_nothing_is_sent_that_cannot_be_answered(client: Client, server: FakeServer, image: UInt8) -> None:
    with pytest.raises(ImageError):
        client.predict(b"GIF89a")
    with pytest.raises(NotAcceptableError):
        client.predict(image, accept="text/html")
    assert not server.asked


def test_a_busy_server_is_asked_again(
    client: Client, server: FakeServer, image: UInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_WAIT", 0.001)
    busy: list[Response] = [(503, {"Retry-After": "0"}, b'{"error": "Busy.", "hint": ""}'), (429, {}, b"")]
    server.answer = lambda asked: busy.pop() if busy else model_answers(asked)
    np.testing.assert_array_equal(client.predict(image).probabilities, probabilities_of(image))
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_an_error_in_time(server: FakeServer, image: UInt8) -> None:
    server.answer = lambda _: (503, {"Retry-After": "60"}, b'{"error": "The queue is full.", "hint": ""}')
    with Client(server.url, timeout=5) as client, pytest.raises(BusyError, match=r"queue is full.*tried for 5 s"):
        client.predict(image)
    assert len(server.asked) == 1


@pytest.mark.parametrize("oversize", get_args(Oversize))
def test_what_fits_is_sent_as_it_is(runtime: FakeRuntime, oversize: Oversize) -> None:
    data = encoded(smooth(200, 300), "JPEG")
    Client(runtime, "cats").predict(data, accept="image/png", oversize=oversize)
    assert [asked.body for asked in runtime.asked] == [data]


def test_an_image_beyond_the_platform_s_limit_is_answered_whole(runtime: FakeRuntime) -> None:
    """As a JPEG file of its own size."""
    image = np.random.default_rng(0).integers(0, 256, (1400, 1600, 3), np.uint8)
    data = encoded(image, compress_level=1)
    assert len(data) > PLATFORM_LIMIT

    runtime.answer = lambda asked: (
        200,
        {"Content-Type": "image/png"},
        encode_mask(asked.pixels[..., 0] // np.uint8(128)),
    )
    found = Client(runtime, "cats").predict(data, accept="image/png")
    (asked,) = runtime.asked
    assert len(asked.body) <= PLATFORM_LIMIT
    assert found.mask.shape == (1400, 1600)
    assert (found.mask == image[..., 0] // 128).mean() > 0.9


def test_an_image_is_scaled_down_and_its_answer_up(server: FakeServer) -> None:
    image = np.repeat(np.repeat(np.eye(3, dtype=np.uint8) * 255, 60, axis=0)[:, None], 140, axis=1)
    noisy = image ^ np.random.default_rng(0).integers(0, 64, image.shape, np.uint8)
    with Client(server.url, max_request=9_000) as client:
        found = client.predict(noisy)
        assert server.asked[0].pixels.shape < image.shape
        assert found.mask.shape == (180, 140)
        assert found.probabilities.shape == (3, 180, 140)
        assert (found.mask == image.argmax(axis=-1)).mean() > 0.95
        with pytest.raises(TooLargeError, match="summaries of parts cannot be joined"):
            client.predict(noisy, accept="application/json")


def test_an_image_in_tiles_is_answered_without_loss(server: FakeServer) -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 3), np.uint8)
    with Client(server.url, max_request=30_000) as client:
        for accept in ("application/x-protobuf", "image/png", "application/x-npy; values=confidence"):
            found = client.predict(image, accept=accept, oversize="tile")
            np.testing.assert_array_equal(found.mask, probabilities_of(image).argmax(axis=0))
        assert all(len(asked.body) <= 30_000 for asked in server.asked)
        with pytest.raises(TooLargeError, match="summaries of parts cannot be joined"):
            client.predict(image, accept="application/json", oversize="tile")


def test_tiles_keep_to_the_limit_of_responses_too(runtime: FakeRuntime) -> None:
    image = smooth(150, 210)
    client = Client(runtime, "cats", max_response=70_000)
    lengths: list[int] = []

    def measured(asked: Asked) -> Response:
        answer = model_answers(asked)
        lengths.append(len(answer[2]))
        return answer

    runtime.answer = measured
    found = client.predict(image, oversize="tile")
    np.testing.assert_array_equal(found.probabilities, probabilities_of(image))
    assert max(lengths) <= 70_000
    assert runtime.asked[0].pixels.shape == (64, 64, 3)  # it shows how many classes there are
    before = len(runtime.asked)
    client.predict(image, oversize="tile")
    assert len(runtime.asked) == 2 * before - 1
    client.predict(image, accept="image/png", oversize="tile")
    assert len(runtime.asked) == 2 * before


def test_the_summary_of_a_small_image_may_have_long_names(client: Client, server: FakeServer) -> None:
    names = [f"{number} {'道' * 250}" for number in range(254)]
    body = b"".join(encode_summary(np.zeros((4, 4), np.uint8), np.ones((4, 4), np.float32), names, False))
    server.answer = lambda _: (200, {"Content-Type": "application/json"}, body)
    found = client.predict(np.zeros((4, 4, 3), np.uint8), accept="application/json")
    assert [entry["name"] for entry in found.summary["classes"]] == names


def test_an_image_that_is_too_large_can_be_refused(server: FakeServer, image: UInt8) -> None:
    with (
        Client(server.url, max_request=100) as client,
        pytest.raises(TooLargeError, match=r"has \d+ bytes, more than the 100 .*oversize"),
    ):
        client.predict(image, oversize="refuse")
    assert not server.asked


def test_many_images_come_back_in_their_order(client: Client) -> None:
    images = [smooth(20 + number, 30) for number in range(20)]
    found = list(client.map(images, threads=5))
    assert [each.size for each in found] == [(20 + number, 30) for number in range(20)]


def test_many_images_are_asked_at_a_time(client: Client, server: FakeServer, image: UInt8) -> None:
    together = threading.Barrier(3)

    def answer(asked: Asked) -> Response:
        together.wait(60)
        return model_answers(asked)

    server.answer = answer
    assert len(list(client.map([image] * 6, threads=3))) == 6


def test_an_endless_stream_of_images_is_read_as_needed(client: Client, server: FakeServer, image: UInt8) -> None:
    taken = itertools.count()
    found = client.map((image for _ in taken), threads=2)
    for _ in range(5):
        next(found)
    assert next(taken) <= 10
    found.close()  # type: ignore[attr-defined]
    assert len(server.asked) <= 10


def test_an_error_ends_it_or_takes_the_place_of_its_image(client: Client, image: UInt8) -> None:
    images: list[ImageLike] = [image, b"GIF89a", image]
    found: list[Segmentation | SemsegError] = []
    with pytest.raises(ImageError):
        found.extend(client.map(images))
    kinds = [type(each) for each in client.map(images, return_exceptions=True)]
    assert kinds == [Segmentation, ImageError, Segmentation]


def test_an_error_of_the_images_themselves_comes_after_the_results_of_those_before(
    client: Client, image: UInt8
) -> None:
    def opened() -> Iterator[ImageLike]:
        yield image
        yield image
        raise ImageError("The third one cannot be opened.")

    for accepting in (False, True):
        results = client.map(opened(), return_exceptions=accepting)
        assert [next(results).size for _ in range(2)] == [(11, 17)] * 2  # type: ignore[union-attr]
        with pytest.raises(ImageError, match="The third one"):
            next(results)
