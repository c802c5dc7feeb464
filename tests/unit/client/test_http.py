from __future__ import annotations

import http.client
import re
import socket
import threading

import pytest
from fake_endpoint import Asked, FakeServer, Response, model_answers

from semseg.client.http import HttpTransport
from semseg.client.sources import load
from semseg.errors import BusyError, SemsegError, ServerError, TooLargeError, UserError
from semseg.types import UInt8

MANY = 10**7


@pytest.mark.parametrize("path", ["", "/", "/invocations", "/invocations/", "/models/cats"])
def test_the_image_is_posted_with_its_type(server: FakeServer, image: UInt8, path: str) -> None:
    transport = HttpTransport(server.url + path)
    reply = transport.send(load(image), "image/png", 10, MANY)
    assert transport._url.count("/invocations") == 1
    transport.close()
    (asked,) = server.asked
    assert asked.headers["Accept"] == "image/png"
    assert asked.headers["Content-Type"] == "image/png"
    assert asked.body == load(image).data
    assert reply == (model_answers(asked)[2], "image/png")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://localhost",
        "http://",
        "/invocations",
        "http:///x",
        "http://localhost:99999",
        "http://[::1",
        "http://a:b",
    ],
)
def test_other_addresses_are_an_error(url: str) -> None:
    with pytest.raises(UserError, match="is not the address of a server"):
        HttpTransport(url)


def error_of(
    server: FakeServer, image: UInt8, answer: Response | None, seconds: float = 10, most: int = MANY
) -> SemsegError:
    server.answer = lambda _: answer
    transport = HttpTransport(server.url)
    with pytest.raises(SemsegError) as caught:
        transport.send(load(image), "image/png", 10, most)
    transport.close()
    return caught.value


def test_refusals_are_errors(server: FakeServer, image: UInt8) -> None:
    error = error_of(server, image, (413, {}, b'{"error": "Too large.", "hint": "Shrink it."}'))
    assert isinstance(error, TooLargeError)
    assert str(error) == "Too large. Shrink it."
    busy = error_of(server, image, (503, {"Retry-After": "3"}, b'{"error": "Busy.", "hint": ""}'))
    assert isinstance(busy, BusyError)
    assert busy.retry_after == 3
    assert len(server.asked) == 2


def test_a_redirection_is_an_error_as_post_would_become_get(server: FakeServer, image: UInt8) -> None:
    error = error_of(server, image, (301, {"Location": "http://127.0.0.1:1/"}, b""))
    assert isinstance(error, ServerError)
    assert error.status == 301


def test_a_response_that_is_too_long_is_not_read(server: FakeServer, image: UInt8) -> None:
    error = error_of(server, image, (200, {}, bytes(1 << 20)), most=1000)
    assert re.fullmatch(r"The response of http://\S+/invocations has more than 1,000 bytes\.", str(error))
    assert len(str(error_of(server, image, (500, {}, b"x" * (1 << 20))))) < 300


def test_a_response_that_is_cut_short_is_an_error(server: FakeServer, image: UInt8) -> None:
    error = error_of(server, image, (200, {"Content-Length": "100", "Connection": "close"}, b"ten bytes"))
    assert isinstance(error, ServerError)
    assert "IncompleteRead" in str(error)


def test_a_response_in_another_form_than_declared_is_an_error(server: FakeServer, image: UInt8) -> None:
    error = error_of(server, image, (200, {"Content-Encoding": "gzip"}, b"not gzip"))
    assert str(error).startswith(f"The response of {server.url}/invocations is broken: ")


def test_a_connection_that_breaks_is_tried_once_more(server: FakeServer, image: UInt8) -> None:
    answers: list[Response | None] = [None]
    server.answer = lambda asked: answers.pop() if answers else model_answers(asked)
    transport = HttpTransport(server.url)
    assert transport.send(load(image), "image/png", 10, MANY).content_type == "image/png"
    assert len(server.asked) == 2
    transport.close()
    error = error_of(server, image, None)
    assert len(server.asked) == 4
    assert "cannot be reached: " in str(error)


def test_nobody_listening_is_an_error(monkeypatch: pytest.MonkeyPatch, image: UInt8) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        transport = HttpTransport(f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ServerError, match=r"cannot be reached: .*refused.*\. Is it running\?") as caught:
            transport.send(load(image), "image/png", 10, MANY)
        transport.close()
    assert caught.value.status is None


def test_silence_is_an_error_in_time(server: FakeServer, image: UInt8) -> None:
    released = threading.Event()

    def silent(asked: Asked) -> Response:
        released.wait(60)
        return model_answers(asked)

    server.answer = silent
    transport = HttpTransport(server.url)
    with pytest.raises(ServerError, match=r"did not answer within 0\.05 s"):
        transport.send(load(image), "image/png", 0.05, MANY)
    released.set()
    transport.close()


def test_all_of_the_time_may_go_into_sending(server: FakeServer, image: UInt8, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image over a slow connection, or to a server that is busy, takes longer than a connection may."""
    limits: list[float | None] = []
    send = http.client.HTTPConnection.send

    def watched(connection: http.client.HTTPConnection, data: bytes) -> None:
        send(connection, data)
        limits.append(connection.sock.gettimeout())

    monkeypatch.setattr(http.client.HTTPConnection, "send", watched)
    transport = HttpTransport(server.url)
    transport.send(load(image), "image/png", 60, MANY)
    transport.close()
    assert min(limit or 0 for limit in limits) > 50


def test_a_response_that_stalls_is_an_error_in_time_and_the_image_is_not_sent_again(
    server: FakeServer, image: UInt8
) -> None:
    server.answer = lambda _: (200, {"Content-Length": "100"}, b"ten bytes ")
    transport = HttpTransport(server.url)
    with pytest.raises(ServerError, match=r"did not answer within 0\.05 s"):
        transport.send(load(image), "image/png", 0.05, MANY)
    transport.close()
    assert len(server.asked) == 1
