"""Fixtures for tests of the container image on a real Docker engine; scripts/test-image builds the image first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from quick_job import QUICK
from serve_process import Client

from semseg.data.shapes import write_shapes

UNKNOWN_USER = "12345:12345"
"""Not in the image's passwd file."""

HARDENED = ("--user", UNKNOWN_USER, "--read-only", "--tmpfs", "/tmp")
READY_WITHIN = 120


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the Docker command line; unless check is False, an exit code other than 0 fails and shows the output."""
    done = subprocess.run([_client(), *arguments], capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def _client() -> str:
    return os.environ.get("DOCKER", "docker")


@dataclass(frozen=True)
class Container:
    """A container; the fixture `start` removes it after the test."""

    name: str

    def inspect(self) -> dict[str, Any]:
        details: list[dict[str, Any]] = json.loads(docker("inspect", self.name).stdout)
        return details[0]

    def wait(self) -> int:
        """Waits until the container ends and returns its exit code."""
        return int(docker("wait", self.name).stdout)

    def log(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def wait_for_line(self, text: str) -> None:
        """Waits for a log line that contains the text; fails if the log ends without one."""
        command = [_client(), "logs", "--follow", self.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as following:
            assert following.stdout
            seen = []
            for line in following.stdout:
                seen.append(line)
                if text in line:
                    following.kill()
                    return
        pytest.fail(f"{text!r} is not in the log:\n{''.join(seen)}")

    def exec(self, *command: str) -> str:
        """Runs a command in the container and returns its output."""
        return docker("exec", self.name, *command).stdout


@pytest.fixture(scope="session", name="docker")
def command_line() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The function `docker`."""
    return docker


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image to test."""
    return os.environ["SEMSEG_IMAGE"]


@pytest.fixture(scope="session")
def config(image: str) -> dict[str, Any]:
    """The configuration of the image, and its size in bytes as `Size`."""
    details = json.loads(docker("image", "inspect", image).stdout)[0]
    return {**details["Config"], "Size": details["Size"]}


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., Container]]:
    """Starts a container of the image: start(options of docker run, command=arguments after the image, hardened=...).

    A hardened container runs as an unknown user and can write only to /tmp and to mounts.
    """
    started: list[str] = []

    def run(*options: str, command: tuple[str, ...] = (), hardened: bool = True) -> Container:
        started.append(f"semseg-test-{uuid.uuid4().hex[:12]}")
        docker("run", "--detach", "--name", started[-1], *(HARDENED if hardened else ()), *options, image, *command)
        return Container(started[-1])

    yield run
    for name in started:
        docker("rm", "--force", "--volumes", name)


@pytest.fixture(scope="session")
def new_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes directories to be mounted as /opt/ml, with a small data set, owned by UNKNOWN_USER."""

    def make(**changes: str) -> Path:
        base = tmp_path_factory.mktemp("ml")
        write_shapes(base / "input/data", train=8, validation=4, size=(48, 40), seed=1)
        (base / "input/config").mkdir()
        (base / "input/config/hyperparameters.json").write_text(json.dumps(QUICK | {"epochs": "1"} | changes))
        owner = int(UNKNOWN_USER.partition(":")[0])
        for path in (base, *base.rglob("*")):
            shutil.chown(path, owner, owner)
        return base

    return make


@pytest.fixture(scope="session")
def trained(image: str, new_job: Callable[..., Path]) -> Path:
    """The /opt/ml of a training that ran hardened and without a network."""
    base = new_job()
    log = docker("run", "--rm", *HARDENED, "--network", "none", "--volume", f"{base}:/opt/ml", image).stdout
    (base / "log").write_text(log)
    return base


@pytest.fixture(name="container", scope="session")
def make_container() -> type[Container]:
    """The class Container."""
    return Container


@pytest.fixture
def served(start: Callable[..., Container], trained: Path) -> tuple[Container, Client]:
    """A hardened server that has loaded the trained model from a read-only mount."""
    model = f"{trained / 'model'}:/opt/ml/model:ro"
    container = start("--volume", model, "--publish", "127.0.0.1::8080", command=("serve",))
    container.wait_for_line("...model loaded.")
    port = docker("port", container.name, "8080/tcp").stdout.rpartition(":")[2]
    return container, Client(int(port))
