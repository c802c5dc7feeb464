"""HTTP at a real `serve` process: expectations, headers for proxies, and bytes that are not HTTP."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from serve_process import HEIGHT, WIDTH, Answer, Server, assert_error, encode

from semseg.types import UInt8

TOO_LARGE = 2**20 + 1
"""Bytes, one more than the server takes."""


def send(server: Server, head: str, body: bytes = b"") -> socket.socket:
    """A connection on which this has been sent; `head` without its last, empty line."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    return connection


def answer_on(connection: socket.socket) -> Answer:
    """The next answer on a connection, which must be a final one."""
    assert connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)[9:10] != b"1", "an interim answer"
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.headers, response.read()


def is_asked_for_the_body(connection: socket.socket) -> bool:
    """Whether the interim answer comes next, which asks for the body."""
    expected = b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection.recv(len(expected), socket.MSG_WAITALL) == expected


def post(*headers: str, path: str = "/invocations", version: str = "1.1") -> str:
    return "\n".join((f"POST {path} HTTP/{version}", "Host: a", "Expect: 100-continue", *headers))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post(f"Content-Length: {TOO_LARGE}"), 413),
        (post("Content-Length: 1000", "Content-Type: text/csv"), 415),
        (post("Content-Length: 100000", "Accept: text/csv"), 406),
        (post("Transfer-Encoding: chunked", "Accept: text/csv"), 406),
        (post("Content-Length: 10", path="/nowhere"), 404),
        (post("Content-Length: 10", path="/info"), 405),
        (post("Content-Length: 10", path="/ping"), 200),
    ],
)
def test_a_body_that_is_not_wanted_is_answered_before_it_is_sent(server: Server, head: str, status: int) -> None:
    with send(server, head) as connection:
        answer = answer_on(connection)
        assert answer[0] == status
        assert answer[1]["Connection"] == "close"  # who sends the body all the same starts no request with it
        if status >= 400:
            assert_error(answer, status)
        assert connection.recv(1) == b""


def test_a_client_that_does_not_wait_for_the_answer_gets_it(server: Server) -> None:
    with send(server, post(f"Content-Length: {TOO_LARGE}"), bytes(TOO_LARGE)) as connection:
        assert_error(answer_on(connection), 413)


@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue", " 100-CONTINUE "])
def test_a_body_that_is_wanted_is_asked_for_once_and_the_connection_is_kept(
    server: Server, image: UInt8, expectation: str
) -> None:
    body = encode(image)
    head = post(f"Content-Length: {len(body)}", "Accept: image/png").replace("100-continue", expectation)
    with send(server, head) as connection:
        for again in (True, False):
            assert is_asked_for_the_body(connection)
            for start in range(0, len(body), 5000):
                connection.sendall(body[start : start + 5000])
            status, headers, mask = answer_on(connection)
            assert (status, headers["Connection"]) == (200, "keep-alive")
            assert Image.open(io.BytesIO(mask)).size == (WIDTH, HEIGHT)
            if again:
                connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")


def test_a_body_in_chunks_is_asked_for_as_well(server: Server, image: UInt8) -> None:
    body = encode(image)
    with send(server, post("Transfer-Encoding: chunked", "Accept: image/png")) as connection:
        assert is_asked_for_the_body(connection)
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert answer_on(connection)[0] == 200


def test_no_body_and_no_interim_answer(server: Server) -> None:
    """HTTP/1.0 has no interim answers; where there is no body none is waited for."""
    with send(server, post("Content-Length: 0")) as connection:
        assert answer_on(connection)[0] == 204
    with send(server, post("Content-Length: 3", version="1.0"), b"abc") as connection:
        assert answer_on(connection)[0] == 400


@pytest.mark.parametrize(
    "headers",
    [
        "SCRIPT_NAME: /else",
        "Script-Name: /else",
        "PATH_INFO: /else",
        "REMOTE_USER: root\nRemote-User: root",
        "X-Forwarded-Prefix: /else\nX-Forwarded-Host: b\nX-Forwarded-For: 1.2.3.4\nForwarded: for=1.2.3.4",
        "X-Forwarded-Proto: https\nX-Forwarded-Ssl: off",
        "X-Forwarded-Proto: https",
    ],
)
def test_headers_for_proxies_change_nothing(server: Server, headers: str) -> None:
    """These come from this machine, whose proxies gunicorn would believe."""
    with send(server, f"GET /info HTTP/1.1\nHost: a\n{headers}") as connection:
        assert answer_on(connection)[::2] == server.ask("GET", "/info")[::2]


NO_HTTP = [
    ("ABRACADABRA", 400),
    ("\x16\x03\x01\x02\x00\x01\x00", 400),  # a client that speaks TLS
    ("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\nGET /ping HTTP/1.1", 400),
    ("PRI * HTTP/2.0", 400),
    ("GET /ping HTTP/1.1\nHost : a", 400),
    ("GET /ping HTTP/1.1\nHost: a\nHost: b", 400),
    ("GET /ping HTTP/1.1\n<script>: 'alert(\"\")'", 400),
    ("GET /ping HTTP/1.1\nHost: a\nContent-Length: many", 400),
    ("GET /ping HTTP/1.1\nHost: a\nTransfer-Encoding: br", 400),
    ("GET /ping HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 5", 400),
    (f"GET /{'p' * 9000} HTTP/1.1", 414),
    (f"GET /ping HTTP/1.1\nA: {'p' * 9000}", 431),
    ("GET /ping HTTP/1.1" + "\nA: a" * 200, 431),
    ("POST /invocations HTTP/1.1\nHost: a\nExpect: 200-ok\nContent-Length: 3", 417),
    ("POST /invocations HTTP/1.1\nHost: a\nExpect: 100-continue, more\nContent-Length: 3", 417),
]


@pytest.mark.parametrize(("message", "status"), NO_HTTP, ids=lambda value: ascii(value)[:50])
def test_what_is_no_http_gets_an_error_of_the_same_form_as_all(server: Server, message: str, status: int) -> None:
    with send(server, message) as connection:
        answer = answer_on(connection)
        assert_error(answer, status)
        assert answer[1]["Connection"] == "close"
        assert connection.recv(1) == b""
    with closing(server.connect()) as other:
        other.request("GET", "/ping")
        assert other.getresponse().status == 200


@pytest.mark.parametrize("name", ["image", "any name"])
def test_curl_may_send_an_image_as_the_file_of_a_form(server: Server, image: UInt8, tmp_path: Path, name: str) -> None:
    (tmp_path / "image.png").write_bytes(encode(image))
    _, _, expected = server.invoke(encode(image), Accept="image/png")
    address = f"http://127.0.0.1:{server.port}/invocations"

    def curl(*options: str) -> bytes:
        command = ["curl", "--silent", "--noproxy", "*", "--header", "Accept: image/png", *options, address]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60).stdout

    assert curl("--form", f"{name}=@image.png") == expected
    refused = json.loads(curl("--form", f"{name}=@image.png", "--form", "threshold=0.5"))
    assert refused["error"] == "The field 'threshold' of the form is not a file."
    assert "curl -F image=@FILE" in refused["hint"]
