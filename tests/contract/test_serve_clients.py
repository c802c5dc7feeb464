"""Clients that take up a `serve` process's memory or time, and what the others notice of them."""

from __future__ import annotations

import http.client
import socket
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import faulty_server
import numpy as np
import serve_process
from prometheus_client.parser import text_string_to_metric_families
from serve_process import Server, encode, wait_until


def serving(logs: Path, *does: str, **environ: str) -> AbstractContextManager[Server]:
    """A ready server whose network misbehaves as its arguments say, and that ends well when the block does."""
    return serve_process.serving(logs, logs, faulty_server.__file__, *does, **environ)


def metric_of(server: Server, metric: str, **labels: str) -> float:
    """A value of /metrics; 0 if it is not there."""
    families = text_string_to_metric_families(server.ask("GET", "/metrics")[2].decode())
    return sum(one.value for family in families for one in family.samples if (one.name, one.labels) == (metric, labels))


def queued(server: Server) -> float:
    return metric_of(server, "semseg_queue")


def image(width: int, height: int) -> bytes:
    return encode(np.full((height, width, 3), 200, np.uint8))


def begin(server: Server, body: bytes, accept: str) -> socket.socket:
    """A client that has sent a request, and has room for little of the answer until it reads it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nAccept: {accept}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def answer_to(client: socket.socket) -> tuple[int, bytes]:
    with closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        return response.status, response.read()


def test_a_small_image_does_not_wait_behind_a_large_one_that_waits_for_a_slow_client(tmp_path: Path) -> None:
    """Two answers of 14 MB do not fit the memory together; it takes 30 s until the first client counts as gone."""
    large, numbers = image(1200, 1000), "application/x-npy"
    with serving(tmp_path, "thrifty", SAGEMAKER_MODEL_SERVER_TIMEOUT="20") as server, ExitStack() as opened:
        first = opened.enter_context(begin(server, large, numbers))
        assert first.recv(1 << 10, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        second = opened.enter_context(begin(server, large, numbers))
        wait_until(lambda: queued(server) == 1)
        assert server.invoke(image(40, 30), Accept="image/png")[0] == 200
        for client in (first, second):
            status, body = answer_to(client)
            assert (status, len(body) > 4 * 3 * 1200 * 1000) == (200, True)


def test_nothing_is_computed_for_clients_that_have_left(tmp_path: Path) -> None:
    """Their places in the full queue are not kept either."""
    with serving(tmp_path, "waits", str(tmp_path), SEMSEG_QUEUE="33") as server, ExitStack() as opened:
        first = opened.enter_context(begin(server, image(10, 10), "image/png"))
        wait_until(lambda: (tmp_path / "seen").exists())
        leaving = [begin(server, image(20, 10), "image/png") for _ in range(33)]
        wait_until(lambda: queued(server) == 34)
        assert server.invoke(image(40, 10), Accept="image/png")[0] == 503
        for client in leaving:
            client.close()
        stays = opened.enter_context(begin(server, image(30, 10), "image/png"))
        wait_until(lambda: queued(server) == 35)
        (tmp_path / "go").touch()
        assert [answer_to(client)[0] for client in (first, stays)] == [200, 200]
        wait_until(lambda: metric_of(server, "semseg_requests_total", path="/invocations", status="499") == 33)
        assert queued(server) == 0
    assert (tmp_path / "seen").read_text().split() == ["10", "30"]


def test_a_client_that_closes_only_its_sending_side_gets_the_hint_to_keep_it_open(tmp_path: Path) -> None:
    with serving(tmp_path, "waits", str(tmp_path)) as server, ExitStack() as opened:
        first = opened.enter_context(begin(server, image(10, 10), "image/png"))
        wait_until(lambda: (tmp_path / "seen").exists())
        half = opened.enter_context(begin(server, image(20, 10), "image/png"))
        half.shutdown(socket.SHUT_WR)
        (tmp_path / "go").touch()
        assert answer_to(first)[0] == 200
        status, body = answer_to(half)
        assert (status, b"Keep it open" in body) == (499, True)
