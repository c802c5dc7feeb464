"""A training job in a directory of its own, run as the process that the platform would start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from quick_job import QUICK
from serve_process import CLASSES, EXACT, HEIGHT, NAMES, WIDTH, Server, smooth_noise, start, statuses_until_ready
from small_model import write_small_model
from untrained import write_model

from semseg.data.shapes import write_shapes
from semseg.sagemaker.paths import Paths
from semseg.types import UInt8

LIMITS = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1", "SEMSEG_MAX_RESPONSE_MB": "1", "SEMSEG_MAX_PIXELS": "60000"}


@dataclass(frozen=True)
class Job:
    """The tree of one job."""

    paths: Paths

    def configure(self, **changes: str) -> None:
        """Writes the hyperparameters: quick ones, changed as told."""
        self.paths.hyperparameters.write_text(json.dumps(QUICK | changes))

    def start(self, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """Starts `train`; stdout and, unless it has another place, stderr come as one text, the platform's log."""
        environ = os.environ | {
            "SAGEMAKER_BASE_DIR": str(self.paths.base),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "2",
        }
        train = Path(sys.executable).with_name("train")
        return subprocess.Popen([train], env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def run_until(self, words: str, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Runs `train`, sends it a signal at the line of the log that has these words: its exit code, the log after."""
        with self.start() as process:
            assert process.stdout
            for line in process.stdout:
                if words in line:
                    process.send_signal(number)
                    break
            rest, _ = process.communicate(timeout=60)
        return process.returncode, rest

    def run(self) -> tuple[int, str]:
        """Runs `train` to its end: its exit code and its log."""
        with self.start() as process:
            log, _ = process.communicate(timeout=300)
        return process.returncode, log


def make_job(base: Path, train: int = 10, validation: int = 5, size: tuple[int, int] = (48, 40)) -> Job:
    """A job on generated pictures."""
    paths = Paths(base)
    paths.hyperparameters.parent.mkdir(parents=True)
    write_shapes(base / "input/data", train=train, validation=validation, size=size, seed=1)
    job = Job(paths)
    job.configure()
    return job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that has not run, for each test anew."""
    return make_job(tmp_path)


@pytest.fixture(scope="session")
def new_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Makes jobs that several tests share."""
    return lambda **shape: make_job(tmp_path_factory.mktemp("job"), **shape)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a read-only model directory: an FCN on ResNet-50 of random weights, and strangers beside it."""
    base = tmp_path_factory.mktemp("ml")
    model = write_model(base / "model", num_classes=CLASSES)
    (model / "code").mkdir()
    (model / "hyperparams.json").write_text(json.dumps({"algorithm": "fcn", "num_classes": str(CLASSES)}))
    (model / "classes.json").write_text(json.dumps({"classes": NAMES}))
    (model / "model.tar.gz").write_bytes(b"unpacked already")
    (model / "other.params").write_bytes(b"not ours")
    model.chmod(0o555)
    return base


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the model of a small network, which `small_server.py` serves."""
    base = tmp_path_factory.mktemp("small")
    write_small_model(base / "model")
    return base


@pytest.fixture(scope="session")
def picture() -> UInt8:
    """Smooth noise, uint8 (HEIGHT, WIDTH, 3)."""
    return smooth_noise(HEIGHT, WIDTH)


@pytest.fixture(scope="session")
def server(base: Path) -> Iterator[Server]:
    """A server that is ready, for all tests that leave it as it is."""
    server = start(base, base, **LIMITS, **EXACT)
    try:
        statuses_until_ready(server)
        yield server
    finally:
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0
