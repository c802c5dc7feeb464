"""Fixtures for tests of the container image with SageMaker's SDKs, which scripts/test-sdk sets up and runs.

Each SDK runs the README's blocks in a process of its own environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from readme import README

from semseg.data.shapes import write_shapes

ROOT = Path(__file__).parents[2]
ANYBODY = 12345
"""A user other than root, as is usual in local mode, where containers leave files that only root can remove."""

PROJECT_FOLDER = '{{.ID}} {{.Label "com.docker.compose.project.working_dir"}}'
TELEMETRY_OPT_OUT = 'SchemaVersion: "1.0"\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n'


def docker(*arguments: str, check: bool = True) -> str:
    """Runs the Docker command line and returns its output."""
    command = [os.environ.get("DOCKER", "docker"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_anybody() -> list[str]:
    """The prefix that runs a command as ANYBODY with access to the engine; empty if the tests may not switch users."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    group = Path(host).stat().st_gid if Path(host).is_socket() else ANYBODY
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]  # the SDKs may lie in /root
    command = ["setpriv", f"--reuid={ANYBODY}", f"--regid={ANYBODY}", f"--groups={group}", *rights]
    allowed = os.geteuid() == 0 and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []


@dataclass(frozen=True)
class Workplace:
    """A folder with the data set `shapes`, in which an SDK works without touching anything else."""

    folder: Path
    sdk: str

    def prepare(self) -> None:
        self.folder.chmod(0o755)
        write_shapes(self.folder / "shapes", train=8, validation=4, size=(48, 40), seed=1)
        for name in ("bin", "home/.sagemaker", "tmp"):
            (self.folder / name).mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / "home/.sagemaker/config.yaml").write_text(f"local: {{serving_port: {port}}}\n")
        (self.folder / "sdk.yaml").write_text(TELEMETRY_OPT_OUT)
        engine = shutil.which(os.environ.get("DOCKER", "docker"))
        (self.folder / "bin/docker").write_text(f'#!/bin/sh\nexec {engine} "$@"\n')
        if not shutil.which("docker-compose"):  # SDK 2 knows the plugin only by a version that begins with v
            (self.folder / "bin/docker-compose").write_text('#!/bin/sh\nexec docker compose "$@"\n')
        for command in (self.folder / "bin").iterdir():
            command.chmod(0o755)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, ANYBODY, ANYBODY)

    def run(self, *program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs pieces of Python as one program; stderr is part of stdout."""
        home = Path.home()
        environ = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(home / ".docker")),
            "TMPDIR": str(self.folder / "tmp"),
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # nothing listens there: no request leaves this machine
            "AWS_MAX_ATTEMPTS": "1",
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(self.folder / "sdk.yaml"),
            **variables,
        }
        command = [*as_anybody(), str(ROOT / f".cache/sdk-{self.sdk}/bin/python"), "-"]
        return subprocess.run(
            command, input="\n".join(program), cwd=self.folder, env=environ, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def containers(self) -> list[dict[str, Any]]:
        """The `docker inspect` details of the containers that were started from this folder."""
        lines = docker("ps", "--all", "--format", PROJECT_FOLDER).splitlines()
        started = [line.split()[0] for line in lines if Path(line.partition(" ")[2]).is_relative_to(self.folder)]
        return json.loads(docker("inspect", *started)) if started else []

    def clear(self, image: str) -> None:
        """Removes the containers, their networks unless in use, and all files, including root's."""
        for container in self.containers():
            docker("rm", "--force", "--volumes", container["Id"])
            project = f"label=com.docker.compose.project={container['Config']['Labels']['com.docker.compose.project']}"
            for network in docker("network", "ls", "--quiet", "--filter", project).split():
                docker("network", "rm", network, check=False)
        owner = f"{os.geteuid()}:{os.getegid()}"
        volume = f"{self.folder}:/folder"
        docker("run", "--rm", "--volume", volume, "--entrypoint", "chown", image, "-R", owner, "/folder")
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image to test."""
    return os.environ["SEMSEG_IMAGE"]


@pytest.fixture(scope="session")
def workplace(image: str) -> Iterator[Callable[[str], Workplace]]:
    """Makes workplaces for an SDK, v2 or v3, and removes them after the session."""
    with ExitStack() as clearing:

        def make(sdk: str) -> Workplace:
            place = Workplace(Path(tempfile.mkdtemp(prefix="semseg-sdk-")), sdk)  # only root can enter pytest's folders
            clearing.callback(place.clear, image)
            place.prepare()
            return place

        yield make


@pytest.fixture(scope="session")
def blocks(image: str) -> dict[str, str]:
    """The Python blocks of the README's section on SageMaker by name, with the image under test for local mode."""
    (section,) = re.findall(r"^## On SageMaker\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names = ("shared", "v2", "serverless", "tuning", "earlier", "local", "v3", "v3 local")
    assert len(found) == len(names) == section.count("```") / 2
    return {name: block.replace('"semseg:cpu"', f'"{image}"') for name, block in zip(names, found, strict=True)}
