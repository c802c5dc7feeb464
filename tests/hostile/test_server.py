"""A real `serve` process, sent what nobody should send. It has to answer, and stay as it is."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from hunt import LONG, Hunt
from image_files import good_images, hostile_image
from messages import hostile_message
from PIL import Image
from serve_process import Server, start, statuses_until_ready
from untrained import write_model
from wire import Answer, answers, drip, send

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("hunt", [LONG], indirect=True)]

MAX_PIXELS = 64 * 64
LIMITS = {
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
    "SEMSEG_MAX_PIXELS": str(MAX_PIXELS),
    "SEMSEG_PRECISION": "f32",
    "SEMSEG_PAGE": "on",
}
GROWTH = 1.03
"""What the memory may be at the end, 1 being what it is after images of many sizes."""

MANY_SIZES = 200
"""Of images, for which OpenVINO keeps kernels until it has as many as it may: then memory grows no more."""


@dataclass(frozen=True)
class Watched(Server):
    """A server, and the folder that its output is in."""

    logs: Path

    @property
    def worker(self) -> str:
        """Its process id; the server has one at a time."""
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()

    def files(self) -> int:
        """How many the worker has open."""
        return len(list(Path(f"/proc/{self.worker}/fd").iterdir()))

    def memory(self) -> int:
        """What the worker has in memory, in kB."""
        status = Path(f"/proc/{self.worker}/status").read_text()
        return int(re.findall(r"VmRSS:\s*(\d+)", status)[0])

    def said(self) -> list[str]:
        """Its output and its errors so far."""
        return [(self.logs / name).read_text(errors="replace") for name in ("stdout", "stderr")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server of an FCN-ResNet50 of random weights that is ready."""
    base = tmp_path_factory.mktemp("ml")
    write_model(base / "model")
    started = start(base, base, **LIMITS)
    try:
        statuses_until_ready(started)
        yield Watched(started.port, started.process, base)
    finally:
        started.process.terminate()
        assert started.process.wait(timeout=30) == 0
        (base / "model/model_best.params").unlink()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def steady(server: Watched) -> Iterator[Watched]:
    """The server, which must be after the test what it was before: the same process, as large, without a word."""
    files = server.files()
    with closing(Visitor(server.port)) as client:
        for body in (pixels(64, 64), pixels(1, MAX_PIXELS // 8), pixels(MAX_PIXELS // 8, 1), *good_images()):
            for accept in ("image/png", "application/x-recordio-protobuf"):
                assert client.invoke(body, accept).status == 200
        random = Random(0)
        for _ in range(MANY_SIZES):
            assert client.invoke(pixels(random.randint(1, 64), random.randint(1, 64)), "image/png").status == 200
    worker, memory, before = server.worker, server.memory(), server.said()
    wait_for(lambda: server.files() <= files, 70)
    yield server
    assert server.ping() == 200
    assert server.worker == worker
    wait_for(lambda: server.files() <= files, 70)  # a connection may be kept for a minute
    print(f"memory: {memory} kB, then {server.memory()} kB")
    assert server.memory() < GROWTH * memory
    for text, known in zip(server.said(), before, strict=True):
        said = text.removeprefix(known)
        assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:3000]


def pixels(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


class Visitor:
    """Invocations on a connection that is kept open, as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def invoke(self, body: bytes, accept: str) -> Answer:
        self._connection.request("POST", "/invocations", body, {"Accept": accept, "Content-Type": "image/png"})
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def close(self) -> None:
        self._connection.close()


def check(answer: Answer) -> None:
    """Raises AssertionError for an answer that nobody should get."""
    expected = 200 <= answer.status < 300 or 400 <= answer.status < 500 or answer.status == 503
    assert expected, f"{answer.status}: {answer.body[:200]!r}"
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) > 0
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/json", answer
        assert len(answer.body) < 2048
        assert set(json.loads(answer.body)) == {"error", "hint"}
    elif answer.headers.get("content-type") == "image/png":
        with Image.open(io.BytesIO(answer.body)) as mask:
            assert mask.mode in ("L", "P", "RGB")  # a mask, one with a palette, an overlay
            mask.load()


def test_images(steady: Watched, hunt: Hunt) -> None:
    """Whatever a body is, it gets its mask or an error that says why not."""
    statuses: set[int] = set()

    def ask(body: bytes) -> None:
        answer = client.invoke(body, "image/png" if zlib.crc32(body) % 2 else "*/*")
        check(answer)
        statuses.add(answer.status)

    with closing(Visitor(steady.port)) as client:
        hunt.run("images", 150, hostile_image, ask)
    assert {200, 400, 413} <= statuses


def test_messages(steady: Watched, hunt: Hunt) -> None:
    """Whatever comes on a connection, it is answered in HTTP, or closed; slow clients are borne, or given up."""
    image = good_images()[0]
    whole = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    statuses: set[int] = set()

    def ask(message: bytes) -> None:
        for answer in answers(send(steady.port, message, Random(message))):
            check(answer)
            statuses.add(answer.status)

    with ThreadPoolExecutor() as others, ExitStack() as stalled:
        slow = others.submit(drip, steady.port, whole)
        clients = [stalled.enter_context(stalling(steady.port, beginning)) for beginning in unfinished(image)]
        hunt.run("messages", 30, lambda random: hostile_message(random, image), ask)
        assert [answer.status for answer in answers(slow.result(600))] == [200]
        for client in clients:
            for answer in answers(client.makefile("rb").read()):
                check(answer)
    assert {200, 204, 400, 405, 406, 415, 417, 431} <= statuses


HEAD = b"POST /invocations HTTP/1.1\r\nHost: a\r\n"


def unfinished(image: bytes) -> Iterator[bytes]:
    """Beginnings of requests, after which nothing more will come."""
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from (HEAD[:1], HEAD[:20], HEAD, HEAD + b"a")
    yield from (HEAD + b"Content-Length: 500\r\n\r\n" + image[:size] for size in (0, 1, 499))
    yield from (chunked + part for part in (b"", b"5", b"5\r\n", b"5\r\nabcde", b"0\r\n"))


def stalling(port: int, beginning: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(beginning)
    return client
