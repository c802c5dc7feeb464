"""Training jobs in directories of their own, run as the process that the platform would start, and a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small_server
import small_train
from quick_job import QUICK
from serve_process import CLASSES, EXACT, HEIGHT, NAMES, WIDTH, Server, serving, smooth_noise
from small_model import write_small_model
from small_train import HOLD_AT
from untrained import write_model

from semseg.data.shapes import write_shapes
from semseg.sagemaker.paths import Paths
from semseg.types import UInt8

LIMITS = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1", "SEMSEG_MAX_RESPONSE_MB": "1", "SEMSEG_MAX_PIXELS": "60000"}


TRAIN = (str(Path(sys.executable).with_name("train")),)
"""The command `train`, which trains with MXNet."""

SMALL_TRAIN = (sys.executable, small_train.__file__, "train")
"""The same with a small network and without MXNet, for what depends on neither."""


@dataclass(frozen=True)
class Job:
    """The files of one job, and the command that runs it."""

    paths: Paths
    command: Sequence[str]

    def configure(self, **changes: str) -> None:
        """Writes the hyperparameters: the quick ones with changes."""
        self.paths.hyperparameters.write_text(json.dumps(QUICK | changes))

    def start(self, stderr: int = subprocess.STDOUT, hold_at: str = "") -> subprocess.Popen[str]:
        """Starts the job; stdout and, unless it has another place, stderr come as one text, the platform's log.

        hold_at: words at which a job of the small network waits for a signal.
        """
        environ = os.environ | {"SAGEMAKER_BASE_DIR": str(self.paths.base), "PYTHONUNBUFFERED": "1", HOLD_AT: hold_at}
        return subprocess.Popen(self.command, env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def run_until(self, words: str, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal at the line of the log that has these words; returns the exit code and the rest of the log."""
        with self.start(hold_at=words) as process:
            assert process.stdout
            for line in process.stdout:
                if words in line:
                    process.send_signal(number)
                    break
            rest, _ = process.communicate(timeout=60)
        return process.returncode, rest

    def run(self) -> tuple[int, str]:
        """Runs the job to its end; returns its exit code and its log."""
        with self.start() as process:
            log, _ = process.communicate(timeout=300)
        return process.returncode, log


def make_job(base: Path, command: Sequence[str] = SMALL_TRAIN, **shapes: Any) -> Job:
    """Makes a job on generated images; shapes: arguments for `write_shapes`."""
    paths = Paths(base)
    paths.hyperparameters.parent.mkdir(parents=True)
    write_shapes(base / "input/data", **{"train": 10, "validation": 5, "size": (48, 40), "seed": 1, **shapes})
    job = Job(paths, command)
    job.configure()
    return job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of the small network that has not run, new for each test."""
    return make_job(tmp_path)


@pytest.fixture
def mxnet_job(tmp_path: Path) -> Job:
    """The same for MXNet, which trains FCN on ResNet-50."""
    return make_job(tmp_path, TRAIN)


@pytest.fixture(scope="session")
def new_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Makes jobs of the small network, which several tests may share."""
    return lambda **shapes: make_job(tmp_path_factory.mktemp("job"), **shapes)


@pytest.fixture(scope="session")
def new_mxnet_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Makes jobs for MXNet, which several tests may share."""
    return lambda **shapes: make_job(tmp_path_factory.mktemp("job"), TRAIN, **shapes)


@pytest.fixture(scope="session")
def fcn_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a read-only model directory: an FCN on ResNet-50 of random weights."""
    base = tmp_path_factory.mktemp("fcn")
    write_model(base / "model", num_classes=CLASSES).chmod(0o555)
    return base


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the read-only model of a small network, which `small_server.py` serves, and other files beside it.

    It gives each class a band of brightness.
    """
    base = tmp_path_factory.mktemp("small")
    model = write_small_model(base / "model", CLASSES, banded=True)
    (model / "code").mkdir()
    (model / "hyperparams.json").write_text(json.dumps({"algorithm": "fcn", "num_classes": str(CLASSES)}))
    (model / "classes.json").write_text(json.dumps({"classes": NAMES}))
    (model / "model.tar.gz").write_bytes(b"unpacked already")
    (model / "other.params").write_bytes(b"of something else")
    model.chmod(0o555)
    return base


@pytest.fixture(scope="session")
def image() -> UInt8:
    """Smooth noise, uint8 (HEIGHT, WIDTH, 3)."""
    return smooth_noise(HEIGHT, WIDTH)


@pytest.fixture(scope="session")
def server(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the small network that is ready, for all tests that leave it as it is."""
    with serving(small_base, tmp_path_factory.mktemp("logs"), small_server.__file__, **LIMITS, **EXACT) as server:
        yield server
