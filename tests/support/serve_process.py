"""Starts `serve` processes for tests and sends requests to them."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from semseg.types import UInt8

CLASSES = 5
NAMES = [f"class {number} of many" for number in range(CLASSES)]
WIDTH, HEIGHT = 83, 61
EXACT = {"SEMSEG_PRECISION": "f32"}
STARTS_WITHIN = 60.0
Answer = tuple[int, http.client.HTTPMessage, bytes]


@dataclass(frozen=True)
class Client:
    """An HTTP client for a server on a port of this machine."""

    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request; header names have underscores for hyphens. A body that is an iterator is sent in chunks."""
        with closing(self.connect()) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named, encode_chunked=isinstance(body, Iterator))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def invoke(self, body: Any, content_type: str = "image/jpeg", **headers: str) -> Answer:
        return self.ask("POST", "/invocations", body, Content_Type=content_type, **headers)

    def ping(self) -> int | None:
        """The status of /ping; None if nothing listens on the port."""
        try:
            return self.ask("GET", "/ping")[0]
        except ConnectionRefusedError:
            return None

    def begin_post(self, body: bytes) -> socket.socket:
        """Sends the head of a request and returns when the server waits for the body, having answered 100."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nAccept: image/png\r\n"
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        return connection


@dataclass(frozen=True)
class Server(Client):
    """A `serve` process and a client for it."""

    process: subprocess.Popen[bytes]


def start(base: Path, logs: Path, *program: str, **environ: str) -> Server:
    """Starts `serve`, or other Python arguments; its output goes to the files stdout and stderr in `logs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ |= {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}
    with (logs / "stdout").open("w") as stdout, (logs / "stderr").open("w") as stderr:
        command = [sys.executable, *(program or ("-m", "semseg", "serve"))]
        return Server(port, subprocess.Popen(command, env=os.environ | environ, stdout=stdout, stderr=stderr))


def wait_until(condition: Callable[[], bool]) -> None:
    """Polls a condition until it is true; fails after STARTS_WITHIN seconds."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(base: Path, logs: Path, *program: str, **environ: str) -> Iterator[Server]:
    """A server that is ready, and that must exit with 0 after the block. program: Python arguments other than serve."""
    server = start(base, logs, *program, **environ)
    try:
        statuses_until_ready(server)
        yield server
        server.process.terminate()
        assert server.process.wait(timeout=60) == 0
    finally:
        server.process.kill()
        server.process.wait(60)


def workers(server: Server) -> list[int]:
    """The process ids of the workers."""
    master = server.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def shared_folder(server: Server) -> Path:
    """The shared metrics folder of the workers, found through the lock that the master holds open."""
    found = set()
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the server has just closed the file
            found.add(link.readlink())
    (folder,) = {file for file in found if file.name.startswith("semseg-metrics-")}
    return folder


def statuses_until_ready(server: Server) -> list[int]:
    """Polls /ping until it returns 200; returns all statuses without consecutive repetitions."""
    statuses: list[int] = []
    deadline = time.monotonic() + STARTS_WITHIN
    while statuses[-1:] != [200]:
        assert server.process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not become ready"
        status = server.ping()
        if status and statuses[-1:] != [status]:
            statuses.append(status)
        time.sleep(0.02)
    return statuses


def smooth_noise(height: int, width: int) -> UInt8:
    noise = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)).point(lambda value: (value - 96) * 4))


def encode(image: UInt8, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


def assert_error(answer: Answer, status: int, *words: str) -> None:
    code, headers, body = answer
    assert code == status
    assert headers["Content-Type"] == "application/json"
    assert len(body) < 2048
    assert set(json.loads(body)) == {"error", "hint"}
    assert all(word in body.decode() for word in words), body
