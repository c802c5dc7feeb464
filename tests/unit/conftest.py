from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray


@dataclass
class Store:
    """A store of weights in this process. answer: what it does with a request; asked: for which paths it was."""

    url: str
    answer: Callable[[BaseHTTPRequestHandler], None]
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def has(self, content: bytes) -> None:
        """It answers with this from now on."""

        def send(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

        self.answer = send


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store that weights are fetched from, which has nothing; MXNet's home and the temporary folder are new."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            found.answer(self)

        def log_message(self, *_: object) -> None:
            """Keeps stderr quiet."""

    (tmp_path / "temporary").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Store(f"http://127.0.0.1:{server.server_port}", lambda request: request.send_error(404))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.delenv("SEMSEG_OFFLINE")
        monkeypatch.setenv("MXNET_GLUON_REPO", found.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        yield found
        found.closing.set()
        server.shutdown()
        thread.join(60)


@pytest.fixture(scope="session")
def tiny_learner() -> Callable[..., Any]:
    """Makes learners of a tiny network that has all that FCN has: `tiny_learner("adam", seed=1)`.

    They are MXNet's where it is installed, else PyTorch's.
    """
    if not find_spec("mxnet"):
        import torch_learners

        return torch_learners.tiny_learner
    import gluon_models

    return gluon_models.tiny_learner


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FCN of random weights for 3 classes, without hyperparams.json."""
    from untrained import write_model

    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A directory of the test's own with the same parameters."""
    directory = tmp_path / "copy"
    directory.mkdir()
    (directory / "model_best.params").symlink_to(model_dir / "model_best.params")
    return directory


@pytest.fixture
def small_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory of the test's own with the model of a small network, which is known while the test runs."""
    from small_model import known, write_small_model

    with known():
        yield write_small_model(tmp_path / "model")


@pytest.fixture
def quantized(small_dir: Path) -> Path:
    """The same with a model_int8.onnx that passed its gate."""
    from discerning import labelled

    from semseg.artifact.model_dir import describe
    from semseg.exporting.int8 import quantize

    path = small_dir / "model_int8.onnx"
    assert quantize(describe(small_dir), path, [image for image, _ in labelled()], labelled).passed
    return small_dir


_PARAM_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def _param(array: NDArray[Any]) -> bytes:
    header = struct.pack("<Iii", 0xF993FAC9, 0, array.ndim) + struct.pack(f"<{array.ndim}q", *array.shape)
    return header + struct.pack("<iii", 1, 0, _PARAM_TYPES[array.dtype.name]) + array.tobytes()


@pytest.fixture(scope="session")
def encode() -> Callable[[dict[str, NDArray[Any]]], bytes]:
    """MXNet's file of some arrays, as mxnet 1.9.1 writes it (tests/parity shows that)."""

    def encode(arrays: dict[str, NDArray[Any]]) -> bytes:
        names = [name.encode() for name in arrays]
        return b"".join(
            [
                struct.pack("<QQQ", 0x112, 0, len(arrays)),
                *map(_param, arrays.values()),
                struct.pack("<Q", len(names)),
                *(struct.pack("<Q", len(name)) + name for name in names),
            ]
        )

    return encode
