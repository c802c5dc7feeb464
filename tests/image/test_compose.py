"""Tests of docker/compose.yaml, which trains and then serves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serve_process import Client

FILE = Path(__file__).parents[2] / "docker/compose.yaml"
Compose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def compose(
    docker: Callable[..., Any], new_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Compose]:
    """Runs `docker compose` in its own project, with a new job and a free port."""
    if docker("compose", "version", check=False).returncode != 0:
        pytest.skip("Docker's compose plugin is not installed")
    job = new_job()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SEMSEG_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("SEMSEG_JOB", str(job))
    monkeypatch.setenv("SEMSEG_USER", f"{job.stat().st_uid}:{job.stat().st_gid}")
    project = ("compose", "--file", str(FILE), "--project-name", f"semseg-test-{uuid.uuid4().hex[:12]}")
    yield lambda *arguments: docker(*project, *arguments)
    docker(*project, "--profile", "*", "down", "--volumes")


def test_the_cpu_profile_trains_and_then_serves(compose: Compose, image: str, container: Callable[[str], Any]) -> None:
    if not image.endswith(":cpu"):
        pytest.skip("the other profiles need a GPU")
    compose("--profile", "cpu", "up", "--detach")
    (server,) = compose("--profile", "cpu", "ps", "--quiet", "serve-cpu").stdout.split()
    container(server).wait_for_line("...model loaded.")
    client = Client(int(os.environ["SEMSEG_PORT"]))
    assert client.ping() == 200
    model = Path(os.environ["SEMSEG_JOB"]) / "model/model_best.params"
    assert client.ask("POST", "/invocations", b"no image")[0] == 400
    assert model.is_file()


@pytest.mark.parametrize("profile", ["gpu", "torch"])
def test_a_profile_for_gpus_asks_for_one(compose: Compose, profile: str) -> None:
    services = json.loads(compose("--profile", profile, "config", "--format", "json").stdout)["services"]
    assert set(services) == {f"train-{profile}", f"serve-{profile}"}
    for service in services.values():
        assert service["image"] == f"semseg:{profile}"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])


def test_the_profile_of_two_hosts_gives_each_its_own_place(compose: Compose) -> None:
    """The second one cannot write where the first one keeps its results."""
    found = json.loads(compose("--profile", "hosts", "config", "--format", "json").stdout)
    assert set(found["services"]) == {"algo-1", "algo-2"}
    for name, service in found["services"].items():
        (config,) = service["configs"]
        assert config["target"] == "/opt/ml/input/config/resourceconfig.json"
        resources = json.loads(found["configs"][config["source"]]["content"])
        assert resources == {"current_host": name, "hosts": ["algo-1", "algo-2"], "network_interface_name": "eth0"}
    assert all(volume["read_only"] for volume in found["services"]["algo-2"]["volumes"])
