"""Models, images and a `serve` process for the benchmarks of serving."""

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
    """The job folder of a ResNet-50 network, trained on CamVid if available and kept in .cache.

    On two idle cores an epoch takes two minutes.
    """
    job = CACHE / algorithm
    if not (job / "model" / ONNX).exists():
        shutil.rmtree(job, ignore_errors=True)
        classes = "11" if CAMVID.is_dir() else "4"
        channels = [path for path in data().iterdir() if path.name in CHANNELS]
        options = [option for path in channels for option in (f"--{path.name.replace('_', '-')}", str(path))]
        options += [option for pair in TRAINING.items() for option in pair]
        command = [sys.executable, "-m", "semseg", "train", "--job", str(job), "--algorithm", algorithm, *options]
        command += ["--num-classes", classes, "--epochs", str(epochs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return job


def data() -> Path:
    """The four directories of CamVid if available, else of generated images."""
    return CAMVID if CAMVID.is_dir() else generated()


def quantized(job: Path) -> Gate:
    """The accuracy of int8 against f32 on validation images; the int8 file is added to the model if it passes."""
    path = job / "model" / INT8
    gate = read_gate(onnx_file.verify(path, describe(path.parent).digest)) if path.exists() else None
    folders = data() / "validation", data() / "validation_annotation"
    return gate or quantize_folder(path.parent, *folders, next((data() / "label_map").glob("validation*.json"), None))


def in_int8(content: bytes, image: Float32) -> bytes:
    """An exported ONNX network in int8, calibrated on one image: normalised float32 (1, 3, H, W)."""
    network = onnx.load_from_string(content)
    quantized_content: bytes = to_int8(network, activation_ranges(network, [image], usable_cores())).SerializeToString()
    return quantized_content


def generated() -> Path:
    """Generated images in four directories."""
    folder = CACHE / "shapes"
    if not folder.is_dir():
        write_shapes(folder, train=200, validation=20, size=(480, 360), seed=0)
    return folder


def random_model(algorithm: str, backbone: str, num_classes: int = 21) -> Path:
    """The job folder of a network with random weights, kept in .cache."""
    job = CACHE / f"random-{algorithm}-{backbone}"
    model = job / "model"
    if not (model / ONNX).exists():
        write_onnx(describe(write_model(model, algorithm, backbone, num_classes)), model / ONNX)
    return job


def jpeg_images(size: tuple[int, int], count: int) -> list[bytes]:
    """JPEG files of a width and height: validation images of `data`, cropped and enlarged."""
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
    """A `serve` process that is ready; seconds: the time from its start until then."""

    pid: int
    port: int
    seconds: float

    def mask(self, body: bytes) -> bytes:
        """Requests the mask of a JPEG file; returns a PNG file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWERS_WITHIN)
        connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg", "Accept": "image/png"})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status == 200, answer
        return answer

    def ready(self) -> bool:
        """Whether /ping returns 200."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def processes(self) -> list[Path]:
        """The folders in /proc of gunicorn's master and its worker."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [Path(f"/proc/{pid}") for pid in (str(self.pid), *children)]

    def peak_bytes(self) -> int:
        """The sum of the processes' peak resident memory, in bytes."""
        return self._status("VmHWM")

    def resident_bytes(self) -> int:
        """The sum of the processes' resident memory, in bytes."""
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        lines = [line for path in self.processes() for line in (path / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))

    def has_loaded(self, library: str) -> bool:
        """Whether one of the processes has loaded a library."""
        return any(library in (path / "maps").read_text() for path in self.processes())


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(job: Path, **environ: str) -> Iterator[Server | None]:
    """A server of a job's model; None if it does not start, for example because the model has no int8 file."""
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
    """The share of equal pixels in two masks, given as PNG files."""
    masks = [np.asarray(Image.open(io.BytesIO(data))) for data in (first, second)]
    return float((masks[0] == masks[1]).mean())
