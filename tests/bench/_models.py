"""What benchmarks of serving share: models, pictures, and a `serve` process."""

from __future__ import annotations

import http.client
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import onnx
from PIL import Image
from untrained import write_model

from semseg.artifact import onnx_file
from semseg.artifact.gate import Gate, read_gate
from semseg.artifact.model_dir import INT8, ONNX, describe
from semseg.data.shapes import write_shapes
from semseg.exporting.calibration import activation_ranges
from semseg.exporting.int8_folder import quantize_folder
from semseg.exporting.onnx_model import write_onnx
from semseg.exporting.qdq import to_int8
from semseg.machine import usable_cores
from semseg.types import Float32

ROOT = Path(__file__).parents[2]
CAMVID = Path(os.environ.get("SEMSEG_CAMVID", ROOT / "../shared/data/camvid")).resolve()
CACHE = ROOT / ".cache/serve"
TRAINING = {
    "--use-pretrained-model": "False",
    "--crop-size": "120",
    "--base-size": "240",
    "--mini-batch-size": "8",
    "--optimizer": "adam",
    "--learning-rate": "0.0005",
}
CHANNELS = ("train", "train_annotation", "validation", "validation_annotation", "label_map")
_STARTS_WITHIN = 120.0
_ANSWERS_WITHIN = 1800.0


def trained_model(algorithm: str, epochs: int) -> Path:
    """The job folder of a ResNet-50 network, trained on CamVid if it is there; kept in .cache.

    On two idle cores an epoch takes two minutes.
    """
    job = CACHE / algorithm
    if not (job / "model" / ONNX).exists():
        shutil.rmtree(job, ignore_errors=True)
        classes = "11" if CAMVID.is_dir() else "4"
        channels = [path for path in data().iterdir() if path.name in CHANNELS]
        options = [word for path in channels for word in (f"--{path.name.replace('_', '-')}", str(path))]
        options += [word for pair in TRAINING.items() for word in pair]
        command = [sys.executable, "-m", "semseg", "train", "--job", str(job), "--algorithm", algorithm, *options]
        command += ["--num-classes", classes, "--epochs", str(epochs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return job


def data() -> Path:
    """The four directories of CamVid, if they are there, or of generated pictures."""
    return CAMVID if CAMVID.is_dir() else generated()


def quantized(job: Path) -> Gate:
    """What int8 costs a trained job on validation pictures; its model gets the file, if it passes and has none yet."""
    path = job / "model" / INT8
    gate = read_gate(onnx_file.verify(path, describe(path.parent).digest)) if path.exists() else None
    folders = data() / "validation", data() / "validation_annotation"
    return gate or quantize_folder(path.parent, *folders, next((data() / "label_map").glob("validation*.json"), None))


def in_int8(content: bytes, image: Float32) -> bytes:
    """An ONNX network of ours in int8, calibrated on one picture, normalised float32 (1, 3, H, W)."""
    network = onnx.load_from_string(content)
    rounded: bytes = to_int8(network, activation_ranges(network, [image], usable_cores())).SerializeToString()
    return rounded


def generated() -> Path:
    """Generated pictures in four directories."""
    folder = CACHE / "shapes"
    if not folder.is_dir():
        write_shapes(folder, train=200, validation=20, size=(480, 360), seed=0)
    return folder


def random_model(algorithm: str, backbone: str, num_classes: int = 21) -> Path:
    """The job folder of a network of random weights; kept in .cache."""
    job = CACHE / f"random-{algorithm}-{backbone}"
    model = job / "model"
    if not (model / ONNX).exists():
        write_onnx(describe(write_model(model, algorithm, backbone, num_classes)), model / ONNX)
    return job


def pictures(size: tuple[int, int], count: int) -> list[bytes]:
    """JPEG files of a width and height: validation pictures of CamVid, if it is there, cut and enlarged."""
    paths = sorted((data() / "validation").iterdir())
    return [_jpeg(path, size) for path in paths[:: len(paths) // count][:count]]


def _jpeg(path: Path, size: tuple[int, int]) -> bytes:
    with Image.open(path) as image:
        width, height = min(image.width, image.height * size[0] // size[1]), image.height
        height = min(height, width * size[1] // size[0])
        left, top = (image.width - width) // 2, (image.height - height) // 2
        file = io.BytesIO()
        image.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height)).save(file, "JPEG")
    return file.getvalue()


@dataclass(frozen=True)
class Server:
    """A `serve` process that answers, with the seconds that took since its start."""

    pid: int
    port: int
    seconds: float

    def mask(self, body: bytes) -> bytes:
        """The answer to a picture: a PNG file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWERS_WITHIN)
        connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg", "Accept": "image/png"})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status == 200, answer
        return answer

    def ready(self) -> bool:
        """Whether /ping says 200."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def processes(self) -> list[Path]:
        """Of gunicorn's master and its worker, the folder in /proc."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [Path(f"/proc/{pid}") for pid in (str(self.pid), *children)]

    def peak_bytes(self) -> int:
        """The largest resident memory that the processes have had, added up."""
        return self._status("VmHWM")

    def resident_bytes(self) -> int:
        """The resident memory of the processes, added up."""
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        lines = [line for path in self.processes() for line in (path / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))

    def has_loaded(self, library: str) -> bool:
        """Whether a library is in the memory of one of the processes."""
        return any(library in (path / "maps").read_text() for path in self.processes())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(job: Path, **environ: str) -> Iterator[Server | None]:
    """A server of a job's model; None if it does not start, as for a precision that the model does not have."""
    port = free_port()
    environ = dict(os.environ) | {"SAGEMAKER_BASE_DIR": str(job), "SAGEMAKER_BIND_TO_PORT": str(port)} | environ
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        process = _start(environ, log)
        try:
            server = Server(process.pid, port, 0.0)
            while process.poll() is None and not server.ready():
                assert time.perf_counter() - begin < _STARTS_WITHIN
                time.sleep(0.01)
            seconds = time.perf_counter() - begin
            yield replace(server, seconds=seconds) if process.poll() is None else None
        finally:
            process.terminate()
            process.wait()


def _start(environ: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([Path(sys.executable).with_name("serve")], env=environ, stdout=log, stderr=log)


def agreement(first: bytes, second: bytes) -> float:
    """The share of pixels that two masks, PNG files, have in common."""
    masks = [np.asarray(Image.open(io.BytesIO(data))) for data in (first, second)]
    return float((masks[0] == masks[1]).mean())
