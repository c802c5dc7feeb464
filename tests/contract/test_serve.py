"""A real `serve` process, asked over HTTP."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from semseg.artifact.model_dir import describe
from semseg.engines.gluon import networks, runtime
from semseg.inference.export import write_onnx
from semseg.inference.load import load_predictor
from semseg.inference.predictor import normalise
from semseg.types import Float32, UInt8

CLASSES = 5
NAMES = [f"class {number} of many" for number in range(CLASSES)]
WIDTH, HEIGHT = 83, 61
LIMITS = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1", "SEMSEG_MAX_PIXELS": "20000"}
EXACT = {"SEMSEG_PRECISION": "f32"}
STARTS_WITHIN = 60.0
CURL = "application/x-www-form-urlencoded"  # what curl declares unasked
Answer = tuple[int, http.client.HTTPMessage, bytes]


@dataclass(frozen=True)
class Server:
    """A process of `serve` and the port it listens on."""

    process: subprocess.Popen[bytes]
    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; header names with underscores for hyphens. A body that is an iterator is sent in chunks."""
        with closing(self.connect()) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named, encode_chunked=isinstance(body, Iterator))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def invoke(self, body: Any, content_type: str = "image/jpeg", **headers: str) -> Answer:
        return self.ask("POST", "/invocations", body, Content_Type=content_type, **headers)

    def ping(self) -> int | None:
        """The status of /ping, None when nobody listens."""
        try:
            return self.ask("GET", "/ping")[0]
        except ConnectionRefusedError:
            return None

    def begin_post(self, body: bytes) -> socket.socket:
        """Announces a body and returns when the server waits for it: it has answered 100."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nAccept: image/png\r\n"
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        return connection


def start(base: Path, logs: Path, **environ: str) -> Server:
    """Starts `serve`; its output goes to the files stdout and stderr in `logs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ |= {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}
    with (logs / "stdout").open("w") as stdout, (logs / "stderr").open("w") as stderr:
        command = [sys.executable, "-m", "semseg", "serve"]
        return Server(subprocess.Popen(command, env=os.environ | environ, stdout=stdout, stderr=stderr), port)


def statuses_until_ready(server: Server) -> list[int]:
    """Asks /ping until it says 200: every answer, repeated ones once."""
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


@pytest.fixture(scope="module")
def network() -> Any:
    """An FCN-ResNet50 of random weights, in plain GluonCV."""
    runtime.load().random.seed(7)
    return networks.build("fcn", "resnet-50", CLASSES, runtime.load().cpu())


@pytest.fixture(scope="module")
def base(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a read-only model directory, strangers in it."""
    base = tmp_path_factory.mktemp("ml")
    model = base / "model"
    (model / "code").mkdir(parents=True)
    network.save_parameters(str(model / "model_best.params"))
    (model / "hyperparams.json").write_text(json.dumps({"algorithm": "fcn", "num_classes": str(CLASSES)}))
    (model / "classes.json").write_text(json.dumps({"classes": NAMES}))
    (model / "model.tar.gz").write_bytes(b"unpacked already")
    (model / "other.params").write_bytes(b"not ours")
    model.chmod(0o555)
    return base


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    """A server that is ready."""
    server = start(base, base, **LIMITS, **EXACT)
    try:
        statuses_until_ready(server)
        yield server
    finally:
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def picture() -> UInt8:
    """Smooth noise, uint8 (HEIGHT, WIDTH, 3)."""
    return smooth_noise(HEIGHT, WIDTH)


def smooth_noise(height: int, width: int) -> UInt8:
    noise = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)).point(lambda value: (value - 96) * 4))


def encode(picture: UInt8, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form)
    return file.getvalue()


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


def assert_error(answer: Answer, status: int, *words: str) -> None:
    code, headers, body = answer
    assert code == status
    assert headers["Content-Type"] == "application/json"
    assert len(body) < 2048
    assert set(json.loads(body)) == {"error", "hint"}
    assert all(word in body.decode() for word in words), body


@pytest.mark.req("R2", "R10", "R49", "R51", "R52", "R53")
def test_both_answers_say_the_same_and_what_gluoncv_says(
    server: Server, network: Any, picture: UInt8, record_class: Any
) -> None:
    status, headers, png = server.invoke(encode(picture), Accept="image/png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    mask = Image.open(io.BytesIO(png))
    assert (mask.mode, mask.size) == ("L", (WIDTH, HEIGHT))
    labels = np.array(mask)

    status, headers, record = server.invoke(encode(picture), Accept="application/x-recordio-protobuf")
    assert (status, headers["Content-Type"]) == (200, "application/x-recordio-protobuf")
    assert int(headers["Content-Length"]) == len(record)
    probabilities = decode_record(record_class, record)

    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), labels)
    mx = runtime.load()
    oracle = network.predict(runtime.to_device(normalise(picture), mx.cpu()))[0].asnumpy().argmax(axis=0)
    assert len(np.unique(oracle)) > 1
    assert (labels == oracle).mean() >= 0.9999


@pytest.mark.req("R19", "R50")
@pytest.mark.parametrize("declared", ["Image/JPEG; a=b", "application/x-image", "application/octet-stream", CURL, None])
def test_a_jpeg_without_accept_gets_probabilities(server: Server, picture: UInt8, declared: str | None) -> None:
    headers = {"Content_Type": declared} if declared else {}
    status, answered, body = server.ask("POST", "/invocations", encode(picture, "JPEG"), **headers)
    assert (status, answered["Content-Type"]) == (200, "application/x-recordio-protobuf")
    assert len(body) > 4 * CLASSES * HEIGHT * WIDTH


@pytest.mark.req("R49")
def test_media_types_are_negotiated(server: Server, picture: UInt8) -> None:
    jpeg = encode(picture, "JPEG")
    assert server.invoke(jpeg, Accept="application/x-protobuf")[1]["Content-Type"] == "application/x-protobuf"
    assert server.invoke(jpeg, Accept="text/html, image/*;q=0.5")[1]["Content-Type"] == "image/png"
    assert_error(server.invoke(jpeg, "text/csv"), 415, "text/csv", "image/jpeg")
    assert_error(server.invoke(jpeg, Accept="application/json"), 406, "application/json", "image/png")


def test_the_names_of_the_classes_are_told(server: Server) -> None:
    status, headers, body = server.ask("GET", "/info")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    told = json.loads(body)
    assert (told["algorithm"], told["backbone"], told["num_classes"]) == ("fcn", "resnet-50", CLASSES)
    assert told["classes"] == NAMES


def test_a_body_sent_in_chunks_is_read_whole(server: Server, picture: UInt8) -> None:
    body = encode(picture)
    pieces = iter([body[start : start + 1000] for start in range(0, len(body), 1000)])
    assert server.invoke(pieces, Accept="image/png")[2] == server.invoke(body, Accept="image/png")[2]


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (140, 3)])
def test_pictures_of_any_shape_keep_it(server: Server, size: tuple[int, int]) -> None:
    status, _, png = server.invoke(encode(np.zeros((*size, 3), np.uint8)), Accept="image/png")
    assert status == 200
    assert np.array(Image.open(io.BytesIO(png))).shape == size


def test_large_pictures_are_cut_into_tiles(base: Path, tmp_path: Path) -> None:
    """The memory of a whole picture would be four times that of a tile; the answers differ little."""
    large = smooth_noise(400, 611)
    server = start(base, tmp_path, SEMSEG_MAX_TILE_PIXELS="65536", SEMSEG_BACKEND="openvino", SEMSEG_PRECISION="f32")
    try:
        statuses_until_ready(server)
        status, _, png = server.invoke(encode(large), Accept="image/png")
        assert status == 200
        assert len(server.invoke(encode(large))[2]) > 4 * CLASSES * 400 * 611
    finally:
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
    assert "Pictures of more than 65536 pixels are cut into tiles." in (tmp_path / "stdout").read_text()
    labels = np.array(Image.open(io.BytesIO(png)))
    tiles, whole = (
        load_predictor(base / "model", "openvino", "f32", pixels).predictor.predict(large).labels()
        for pixels in (65_536, 10**6)
    )
    np.testing.assert_array_equal(labels, tiles)
    assert 0.9 < (labels == whole).mean() < 1


def test_bad_pictures_are_refused(server: Server, picture: UInt8) -> None:
    assert_error(server.invoke(b"no picture"), 400)
    assert_error(server.invoke(encode(picture, "JPEG")[:-300]), 400)
    assert_error(server.invoke(encode(np.zeros((200, 101, 3), np.uint8))), 413)
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


def test_a_connection_is_kept_when_the_body_was_read_or_is_small(server: Server, picture: UInt8) -> None:
    for body, content_type in ((encode(picture), "image/png"), (b"no picture", "image/png"), (bytes(1000), "text/csv")):
        assert server.invoke(body, content_type)[1]["Connection"] == "keep-alive"


def test_the_platform_learns_how_to_send_batches(server: Server) -> None:
    _, _, body = server.ask("GET", "/execution-parameters")
    assert json.loads(body) == {"MaxConcurrentTransforms": 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}


def test_clients_that_stall_do_not_hold_up_others(server: Server, picture: UInt8) -> None:
    with ExitStack() as stalled:
        for _ in range(20):
            stalled.enter_context(server.begin_post(encode(picture)))
        assert server.ping() == 200
        assert server.invoke(encode(picture))[0] == 200


def test_requests_at_the_same_time_get_their_own_answers(server: Server) -> None:
    pictures = [encode(np.full((8 + number, 9, 3), 20 * number, np.uint8)) for number in range(8)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda body: server.invoke(body, Accept="image/png"), pictures))
    assert [Image.open(io.BytesIO(body)).size for _, _, body in answers] == [(9, 8 + number) for number in range(8)]


@pytest.mark.req("R10", "R56")
def test_a_server_s_life(base: Path, tmp_path: Path, picture: UInt8) -> None:
    """From 503 to 200, then SIGTERM while a request is on its way: it is answered, and the exit code is 0."""
    before = sorted((path, path.stat().st_mtime_ns) for path in base.glob("model/**/*"))
    server = start(base, tmp_path, SEMSEG_MAX_TILE_PIXELS="65536", **EXACT)
    body = encode(picture)
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
        server.process.wait()
    *lines, last = (tmp_path / "stdout").read_text().splitlines()
    assert last.startswith('#metrics {"Metrics": {"invocations.count": {"sum": 1.0, "count": 1,')
    assert lines == [
        "loading model...",
        "Number of GPUs being used: 0",
        f"OpenVINO computes in f32 on {os.environ['OMP_NUM_THREADS']} cores.",
        f"Loading weights from {base / 'model/model_best.params'}",
        "Pictures of more than 65536 pixels are cut into tiles.",
        "...model loaded.",
    ]
    assert sorted((path, path.stat().st_mtime_ns) for path in base.glob("model/**/*")) == before


def mapped_files(server: Server) -> str:
    """What the server's processes have mapped: their libraries, among others."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return "".join(Path(f"/proc/{child}/maps").read_text() for child in (*children, str(server.process.pid)))


@pytest.mark.req("R56")
@pytest.mark.parametrize(("backend", "library"), [("auto", "libopenvino"), ("mxnet", "libmxnet")])
def test_a_read_only_model_onnx_is_served_by_openvino_alone_unless_told_otherwise(
    base: Path, tmp_path: Path, picture: UInt8, backend: str, library: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(base / "model", model)
    model.chmod(0o755)
    write_onnx(describe(model), model / "model.onnx")
    model.chmod(0o555)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.glob("model/**/*"))
    server = start(tmp_path, tmp_path, SEMSEG_BACKEND=backend)
    try:
        statuses_until_ready(server)
        assert server.invoke(encode(picture), Accept="image/png")[0] == 200
        found = {name for name in ("libopenvino", "libmxnet") if name in mapped_files(server)}
        assert found == {library}
    finally:
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.glob("model/**/*")) == before


def test_without_a_model_the_server_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert start(tmp_path, tmp_path).process.wait(timeout=STARTS_WITHIN) == 3
    ours = [line for line in (tmp_path / "stderr").read_text().splitlines() if not line.startswith("[")]  # gunicorn's
    assert len(ours) == 1
    assert ours[0].startswith(f"The model cannot be loaded: {tmp_path / 'model'} holds neither model_best.params")


def booted_worker(logs: Path, process: subprocess.Popen[bytes]) -> int:
    """Waits until gunicorn says that it has started its worker; returns the worker's process id."""
    while not (found := re.search(r"Booting worker with pid: (\d+)", (logs / "stderr").read_text())):
        assert process.poll() is None, "the server ended"
        time.sleep(0.01)
    return int(found[1])


@pytest.mark.parametrize(("to_worker", "code"), [(True, 3), (False, 0)], ids=["killed", "stopped"])
def test_a_server_that_ends_while_it_loads_ends_for_good(
    base: Path, tmp_path: Path, to_worker: bool, code: int
) -> None:
    """A worker that is killed, say for its memory, would be killed again and again; a stop is no failure."""
    process = start(base, tmp_path).process
    try:
        worker = booted_worker(tmp_path, process)
        os.kill(*((worker, signal.SIGKILL) if to_worker else (process.pid, signal.SIGTERM)))
        assert process.wait(timeout=30) == code
    finally:
        process.kill()
        process.wait()
    says_why = "The worker died before the model was loaded." in (tmp_path / "stderr").read_text()
    assert says_why == to_worker


def test_a_bad_setting_is_the_user_s_error(tmp_path: Path) -> None:
    assert start(tmp_path, tmp_path, SEMSEG_MAX_PIXELS="many").process.wait(timeout=STARTS_WITHIN) == 1
    assert (tmp_path / "stderr").read_text().startswith("SEMSEG_MAX_PIXELS is 'many'")
