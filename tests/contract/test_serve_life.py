"""How a `serve` process begins, what it survives, and how it ends."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import faulty_server
import numpy as np
import pytest
import small_server
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from serve_process import (
    EXACT,
    HEIGHT,
    STARTS_WITHIN,
    WIDTH,
    Server,
    assert_error,
    encode,
    serving,
    shared_folder,
    start,
    statuses_until_ready,
    wait_until,
    workers,
)
from small_model import known

from semseg.artifact.model_dir import describe
from semseg.codecs.params import read_params, write_params
from semseg.exporting.onnx_model import write_onnx
from semseg.types import UInt8

SMALL = small_server.__file__
"""Serves a small network, for what does not depend on the network."""


@pytest.mark.req("R10", "R56")
def test_a_server_s_life(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    """From 503 to 200, then SIGTERM while a request is on its way: it is answered, and the exit code is 0."""
    before = times_of_change(small_base / "model")
    server = start(small_base, tmp_path, SMALL, SEMSEG_MAX_TILE_PIXELS="65536", **EXACT)
    body = encode(image)
    try:
        assert statuses_until_ready(server) == [503, 200]
        with server.begin_post(body) as connection:
            server.process.terminate()
            connection.sendall(body)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            assert Image.open(io.BytesIO(response.read())).size == (WIDTH, HEIGHT)
        assert server.process.wait(timeout=30) == 0
    finally:
        server.process.kill()
        server.process.wait(60)
    *lines, last = (tmp_path / "stdout").read_text().splitlines()
    assert last.startswith('#metrics {"Metrics": {"invocations.count": {"sum": 1.0, "count": 1,')
    assert lines == [
        "loading model...",
        "Number of GPUs being used: 0",
        f"OpenVINO computes in f32 on {os.environ['OMP_NUM_THREADS']} cores.",
        f"Loading weights from {small_base / 'model/model_best.params'}",
        "Images of more than 65536 pixels are cut into tiles.",
        "...model loaded.",
    ]
    assert times_of_change(small_base / "model") == before


def times_of_change(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}


def loaded_libraries(server: Server) -> set[str]:
    """Which of OpenVINO and MXNet the server's processes have mapped."""
    mapped = "".join(Path(f"/proc/{process}/maps").read_text() for process in (*workers(server), server.process.pid))
    return {name for name in ("libopenvino", "libmxnet") if name in mapped}


@pytest.mark.req("R56")
def test_a_read_only_model_onnx_is_served_by_openvino_alone(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    model = tmp_path / "model"
    shutil.copytree(small_base / "model", model)
    model.chmod(0o755)
    with known(*small_server.DECLARED):
        write_onnx(describe(model), model / "model.onnx")
    model.chmod(0o555)
    before = times_of_change(model)
    with serving(tmp_path, tmp_path, SMALL) as server:
        assert server.invoke(encode(image), Accept="image/png")[0] == 200
        assert loaded_libraries(server) == {"libopenvino"}
    assert f"Loading weights from {model / 'model.onnx'}" in (tmp_path / "stdout").read_text()
    assert times_of_change(model) == before


def test_a_server_may_give_the_network_images_at_another_size(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    """Of smooth noise, at half of its size too."""
    with serving(small_base, tmp_path, SMALL, SEMSEG_SCALE="0.5") as server:
        info = json.loads(server.ask("GET", "/info")[2])
        halved, whole = (server.invoke(encode(image), Accept=f"image/png{own}")[2] for own in ("", "; scale=none"))
        status, _, refused = server.invoke(encode(image), Accept="image/png; scale=base")
    assert info["scale"] == "0.5"
    labels = [np.array(Image.open(io.BytesIO(mask))) for mask in (halved, whole)]
    assert labels[0].shape == labels[1].shape == image.shape[:2]
    assert 0.8 < (labels[0] == labels[1]).mean() < 1
    assert (status, b"base_size" in refused) == (406, True)


@pytest.mark.needs("mxnet")
@pytest.mark.req("R56")
def test_mxnet_serves_alone_if_it_is_chosen(fcn_base: Path, tmp_path: Path, image: UInt8) -> None:
    with serving(fcn_base, tmp_path, SEMSEG_BACKEND="mxnet") as server:
        assert server.invoke(encode(image), Accept="image/png")[0] == 200
        assert loaded_libraries(server) == {"libmxnet"}


def test_without_a_model_the_server_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert start(tmp_path, tmp_path).process.wait(timeout=STARTS_WITHIN) == 3
    errors = [line for line in (tmp_path / "stderr").read_text().splitlines() if not line.startswith("[")]  # gunicorn's
    assert len(errors) == 1
    assert errors[0].startswith(f"The model cannot be loaded: {tmp_path / 'model'} holds neither model_best.params")


def booted_worker(logs: Path, process: subprocess.Popen[bytes]) -> int:
    """Waits until gunicorn says that it has started its worker; returns the worker's process id."""
    deadline = time.monotonic() + STARTS_WITHIN
    while not (found := re.search(r"Booting worker with pid: (\d+)", (logs / "stderr").read_text())):
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "no worker is started"
        time.sleep(0.01)
    return int(found[1])


@pytest.mark.parametrize(("to_worker", "code"), [(True, 3), (False, 0)], ids=["killed", "stopped"])
def test_a_server_that_ends_while_it_loads_ends_for_good(
    fcn_base: Path, tmp_path: Path, to_worker: bool, code: int
) -> None:
    """A worker that is killed, say for its memory, would be killed again and again; a stop is no failure."""
    process = start(fcn_base, tmp_path).process
    try:
        worker = booted_worker(tmp_path, process)
        os.kill(*((worker, signal.SIGKILL) if to_worker else (process.pid, signal.SIGTERM)))
        assert process.wait(timeout=30) == code
    finally:
        process.kill()
        process.wait(60)
    says_why = "The worker died before the model was loaded." in (tmp_path / "stderr").read_text()
    assert says_why == to_worker


EARLY = """
import os, signal, sys
import small_server
from gunicorn.workers.base import Worker

def init_signals(worker, init=Worker.init_signals):
    os.kill(os.getpid(), signal.SIGTERM)
    init(worker)

Worker.init_signals = init_signals
sys.exit(small_server.main())
"""
"""A server whose workers get SIGTERM before they handle signals, as when the server is stopped at once."""


def test_a_worker_that_is_stopped_at_once_ends(small_base: Path, tmp_path: Path) -> None:
    """The master would wait for it for 25 seconds, and then kill it."""
    path = os.pathsep.join([str(Path(SMALL).parent), os.environ.get("PYTHONPATH", "")])
    process = start(small_base, tmp_path, "-c", EARLY, PYTHONPATH=path).process
    try:
        first = booted_worker(tmp_path, process)
        wait_until(lambda: f"Worker exiting (pid: {first})" in (tmp_path / "stderr").read_text())
    finally:
        process.terminate()
        process.wait(60)


def test_a_bad_setting_is_the_user_s_error(tmp_path: Path) -> None:
    assert start(tmp_path, tmp_path, SEMSEG_MAX_PIXELS="many").process.wait(timeout=STARTS_WITHIN) == 1
    assert (tmp_path / "stderr").read_text().startswith("SEMSEG_MAX_PIXELS is 'many'")


def kill(server: Server, worker: int) -> None:
    """Kills a worker, and returns when the master knows."""
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in workers(server))


def test_a_worker_killed_in_a_request_closes_its_connection_and_another_takes_over(
    small_base: Path, tmp_path: Path, image: UInt8
) -> None:
    with serving(small_base, tmp_path, SMALL) as server:
        (worker,) = workers(server)
        with server.begin_post(encode(image)) as connection:
            os.kill(worker, signal.SIGKILL)
            assert connection.recv(1000) == b""
        statuses_until_ready(server)
        assert workers(server) != [worker]
        assert server.invoke(encode(image), Accept="image/png")[0] == 200


def answers_until_the_worker_ends(ask: Callable[[], int | None]) -> list[int | None]:
    """What it answers until it closes a connection instead."""
    answers: list[int | None] = []
    with suppress(ConnectionError, http.client.HTTPException):
        while len(answers) < 1000:
            answers.append(ask())
    return answers


def test_a_worker_whose_engine_only_fails_is_replaced(tmp_path: Path, image: UInt8) -> None:
    with serving(tmp_path, tmp_path, faulty_server.__file__, "raises") as server:
        (worker,) = workers(server)
        assert answers_until_the_worker_ends(lambda: server.invoke(encode(image))[0]) == [500] * 9
        statuses_until_ready(server)
        assert workers(server) != [worker]
    says = "The last 10 predictions failed: this process ends, and another takes over.\nTraceback"
    assert (tmp_path / "stdout").read_text().count(says) == 1


def test_a_worker_whose_engine_hangs_is_replaced_on_the_next_request(tmp_path: Path, image: UInt8) -> None:
    with serving(tmp_path, tmp_path, faulty_server.__file__, "hangs") as server:
        (worker,) = workers(server)
        with server.begin_post(encode(image)) as connection:
            connection.sendall(encode(image))
            assert len(answers_until_the_worker_ends(server.ping)) < 1000
        statuses_until_ready(server)
        assert workers(server) != [worker]
    assert "The engine is stuck in a prediction: this process ends" in (tmp_path / "stdout").read_text()


def half_a_header(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: loc")
    return connection


def half_a_chunk(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n\x89PNG")
    return connection


def silence(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def half_a_body(server: Server) -> socket.socket:
    connection = server.begin_post(b"x" * 1000)
    connection.sendall(b"x" * 500)
    return connection


def answered_and_open(server: Server) -> socket.socket:
    """A client that does not close what the server has closed."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(b"GET /info HTTP/1.0\r\n\r\n")
    connection.recv(5)
    return connection


STALLS = (half_a_header, half_a_chunk, half_a_body, silence, answered_and_open)


def test_stalled_clients_block_no_others_and_are_disconnected(server: Server, image: UInt8) -> None:
    """There is room for 256 connections, by default."""
    with ExitStack() as opened:
        stalled = [opened.enter_context(stall(server)) for _ in range(40) for stall in STALLS]
        for _ in range(20):
            assert server.ping() == 200
        assert server.invoke(encode(image), Accept="image/png")[0] == 200
        for connection in stalled:
            while connection.recv(1000):
                pass


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """A worker that does nothing during the block: another has to answer."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def ping_to_the_end(server: Server) -> None:
    """Returns when the server has closed the connection, which it does when it has counted the request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.0 200")
        while connection.recv(1000):
            pass


def resident(process: int) -> int:
    """The bytes that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s*(\d+)", status)[0]) << 10


def loaded_models(logs: Path) -> int:
    """How often a worker has said that its model is loaded."""
    return (logs / "stdout").read_text().count("...model loaded.")


def have_each_answer(server: Server, logs: Path) -> list[int]:
    """Waits until both workers are ready, and has each answer once while the other is stopped; their process ids."""
    while loaded_models(logs) < 2:
        assert server.process.poll() is None, "the server ended"
        time.sleep(0.01)
    for worker in workers(server):
        with stopped(worker):
            ping_to_the_end(server)
    return workers(server)


def test_a_worker_that_loads_leaves_requests_to_one_that_is_ready(small_base: Path, tmp_path: Path) -> None:
    with serving(small_base, tmp_path, SMALL, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        killed, survivor = have_each_answer(server, tmp_path)
        kill(server, killed)
        statuses = []
        while loaded_models(tmp_path) < 3:
            statuses.append(server.ping())
        assert set(statuses) == {200}
        with stopped(survivor):  # the new one takes requests too
            assert server.ping() == 200


def metrics(server: Server) -> dict[str, float]:
    """The values of /metrics, by name and labels."""
    families = text_string_to_metric_families(server.ask("GET", "/metrics")[2].decode())
    samples = [sample for family in families for sample in family.samples]
    return {f"{one.name} {' '.join(sorted(one.labels.values()))}": one.value for one in samples}


def test_several_processes_count_together_and_one_may_die(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    with serving(small_base, tmp_path, SMALL, SAGEMAKER_MODEL_SERVER_WORKERS="2") as server:
        memory = sum(map(resident, have_each_answer(server, tmp_path)))
        assert metrics(server)["semseg_resident_memory_bytes "] == pytest.approx(memory, rel=0.1)
        for _ in range(12):
            assert server.invoke(encode(image), Accept="image/png")[0] == 200
        counts = (metrics(server)["semseg_requests_total /invocations 200"] for _ in range(1000))
        assert 12 in counts  # soon: the last one counts when its client has it
        for _ in range(6):
            assert metrics(server)["semseg_requests_total /invocations 200"] == 12
        kill(server, workers(server)[0])
        statuses_until_ready(server)
        for _ in range(6):
            assert metrics(server)["semseg_requests_total /invocations 200"] == 12
        kept = shared_folder(server)
        assert kept.exists()
    assert not kept.exists()


def test_a_body_of_an_asynchronous_request_may_have_a_gigabyte(small_base: Path, tmp_path: Path) -> None:
    """So much is read and looked at: what is wrong is its content, not its size."""
    with serving(small_base, tmp_path, SMALL, SAGEMAKER_MAX_PAYLOAD_IN_MB="1024") as server:
        assert_error(server.invoke(iter([bytes(1 << 20)] * 150)), 400, "neither JPEG nor PNG")


def test_a_batch_goes_on_after_a_bad_image(small_base: Path, tmp_path: Path, image: UInt8) -> None:
    """As Batch Transform asks: parameters first, then file after file over few connections."""
    batch = serving(small_base, tmp_path, SMALL, SAGEMAKER_BATCH="true")
    with batch as server, closing(server.connect()) as connection:
        statuses = []
        for body in (encode(image), b"no image", encode(image)[:-100], encode(image, "JPEG")):
            connection.request("POST", "/invocations", body, {"Accept": "image/png", "Content-Type": "image/png"})
            response = connection.getresponse()
            statuses.append(response.status)
            response.read()
        assert statuses == [200, 400, 400, 200]


def cut(model: Path) -> None:
    (model / "model_best.params").write_bytes((model / "model_best.params").read_bytes()[:-1])


def of_something_else(model: Path) -> None:
    (model / "model_best.params").write_bytes(b"\x80\x04" + bytes(1000))  # begins like a pickle


def at_odds(model: Path) -> None:
    (model / "hyperparams.json").write_text(json.dumps({"num_classes": "7"}))


def without_parameters(model: Path) -> None:
    (model / "model_best.params").unlink()


def of_no_numbers(model: Path) -> None:
    arrays = dict(read_params(model / "model_best.params"))
    arrays["first.weight"] = np.full_like(arrays["first.weight"], np.nan)
    (model / "model_best.params").unlink()
    write_params(model / "model_best.params", arrays)


def absent(model: Path) -> None:
    shutil.rmtree(model)


@pytest.mark.parametrize("damage", [cut, of_something_else, at_odds, without_parameters, of_no_numbers, absent])
def test_a_bad_artifact_ends_the_start_with_one_line(
    small_base: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(small_base / "model", tmp_path / "model")
    (tmp_path / "model").chmod(0o755)
    damage(tmp_path / "model")
    assert start(tmp_path, tmp_path, SMALL).process.wait(timeout=STARTS_WITHIN) == 3
    errors = [line for line in (tmp_path / "stderr").read_text().splitlines() if not line.startswith("[")]  # gunicorn's
    assert len(errors) == 1
    assert errors[0].startswith(f"The model cannot be loaded: {tmp_path / 'model'}")
