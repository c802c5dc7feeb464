"""Tests of `train` and `serve` in containers, from start to exit."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.engines.gluon import runtime

START = "LRScheduler setup"  # the last log line before the first training step
MEGABYTES_TOO_FEW = "800m"
PING = "import urllib.request as http; print(http.urlopen('http://localhost:8080/ping', timeout=60).status)"

SEGMENTS = """
import io, urllib.request as http
from PIL import Image
file = io.BytesIO()
Image.new("RGB", (48, 40)).save(file, "PNG")
headers = {"Content-Type": "image/png", "Accept": "image/png"}
print(http.urlopen(http.Request("http://localhost:8080/invocations", file.getvalue(), headers), timeout=60).status)
"""
FILL = (
    "for folder in /tmp /dev/shm; do cat /dev/zero > $folder/full 2>/dev/null; done; ls /tmp /dev/shm; df /tmp /dev/shm"
)


def image_of(base: Path) -> bytes:
    return next(iter(sorted((base / "input/data/validation").iterdir()))).read_bytes()


def test_training_needs_no_root_no_network_and_only_opt_ml_and_tmp(trained: Path) -> None:
    assert {path.name for path in (trained / "model").iterdir()} == {
        "README.md",
        "hyperparams.json",
        "model.onnx",
        "model_algo-1",
        "model_best.params",
    }
    assert (trained / "output/data/metrics.json").is_file()
    assert not (trained / "output/failure").exists()
    assert "Docker entrypoint called with argument(s): train" in (trained / "log").read_text()


@pytest.mark.req("R10", "R50", "R51", "R52")
def test_a_hardened_server_answers_with_masks_and_probabilities(
    served: tuple[Any, Any], trained: Path, record_class: Any
) -> None:
    _, client = served
    assert client.ping() == 200
    headers = {"Content_Type": "image/jpeg"}
    status, _, mask = client.ask("POST", "/invocations", image_of(trained), Accept="image/png", **headers)
    assert status == 200
    status, _, tensor = client.ask("POST", "/invocations", image_of(trained), **headers)
    assert status == 200
    record = record_class()
    record.ParseFromString(tensor[8 : 8 + (int.from_bytes(tensor[4:8], "little") & (2**29 - 1))])
    shape = record.features["shape"].int32_tensor.values
    probabilities = np.reshape(record.features["target"].float32_tensor.values, shape)
    assert list(shape) == [1, 4, 40, 48]
    np.testing.assert_array_equal(probabilities[0].argmax(axis=0), np.array(Image.open(io.BytesIO(mask))))


def test_a_server_needs_no_network(start: Callable[..., Any], trained: Path) -> None:
    container = start("--network", "none", "--volume", f"{trained / 'model'}:/opt/ml/model:ro", command=("serve",))
    container.wait_for_line("...model loaded.")
    assert container.exec("python", "-c", PING) == "200\n"


def test_a_server_lives_on_when_nothing_can_be_written_any_more(start: Callable[..., Any], trained: Path) -> None:
    limits = ("--read-only", "--tmpfs", "/tmp:size=1m", "--shm-size", "1m")
    container = start(*limits, "--volume", f"{trained / 'model'}:/opt/ml/model:ro", command=("serve",), hardened=False)
    container.wait_for_line("...model loaded.")
    assert container.exec("sh", "-c", FILL).count("100%") == 2
    assert container.exec("python", "-c", SEGMENTS) == "200\n"


def test_a_request_under_way_is_answered_before_the_server_ends(
    served: tuple[Any, Any], trained: Path, docker: Callable[..., Any]
) -> None:
    container, client = served
    body = image_of(trained)
    with client.begin_post(body) as connection:
        docker("kill", "--signal", "TERM", container.name)  # what docker stop sends first
        connection.sendall(body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        assert Image.open(io.BytesIO(response.read())).size == (48, 40)
    assert container.wait() == 0


def test_a_stop_in_training_saves_the_model(
    start: Callable[..., Any], new_job: Callable[..., Path], docker: Callable[..., Any]
) -> None:
    base = new_job(epochs="1000")
    container = start("--volume", f"{base}:/opt/ml")
    container.wait_for_line(START)
    docker("stop", "--time", "120", container.name)
    assert container.inspect()["State"]["ExitCode"] == 0
    assert "Stopping on request: saving the current model." in container.log()
    assert (base / "model/model_algo-1").stat().st_size > 100_000_000
    assert json.loads((base / "model/hyperparams.json").read_text())["num_classes"] == "4"


def test_a_stop_before_training_ends_well_too(
    start: Callable[..., Any], new_job: Callable[..., Path], docker: Callable[..., Any]
) -> None:
    container = start("--volume", f"{new_job()}:/opt/ml")
    container.wait_for_line("Docker entrypoint called")
    docker("stop", "--time", "60", container.name)
    assert container.inspect()["State"]["ExitCode"] == 0


def test_too_little_memory_kills_training_visibly_and_leaves_no_model(
    start: Callable[..., Any], new_job: Callable[..., Path]
) -> None:
    base = new_job(crop_size="240", base_size="240")
    limits = ("--memory", MEGABYTES_TOO_FEW, "--memory-swap", MEGABYTES_TOO_FEW)
    container = start(*limits, "--volume", f"{base}:/opt/ml")
    assert container.wait() == 137
    assert container.inspect()["State"]["OOMKilled"]
    assert START in container.log()
    assert not list(base.glob("model/*"))


def test_too_little_memory_ends_the_server_visibly(start: Callable[..., Any], trained: Path) -> None:
    limits = ("--memory", "150m", "--memory-swap", "150m")
    container = start(*limits, "--volume", f"{trained / 'model'}:/opt/ml/model:ro", command=("serve",))
    assert container.wait() == 3
    assert "was sent SIGKILL! Perhaps out of memory?" in container.log()


def test_a_job_that_fails_says_why(start: Callable[..., Any], new_job: Callable[..., Path]) -> None:
    base = new_job(num_classes="1")
    container = start("--volume", f"{base}:/opt/ml")
    assert container.wait() == 1
    assert "num_classes" in (base / "output/failure").read_text()


def test_an_image_with_cuda_on_a_gpu_instance_without_a_driver_says_so(
    start: Callable[..., Any], new_job: Callable[..., Path], docker: Callable[..., Any], image: str
) -> None:
    libraries = "/opt/semseg/lib/python3.11/site-packages/nvidia"
    if docker("run", "--rm", image, "ls", libraries, check=False).returncode != 0:
        pytest.skip("an image without CUDA only warns")
    base = new_job()
    (base / "input/config/resourceconfig.json").write_text('{"current_instance_type": "ml.g5.xlarge"}')
    container = start("--volume", f"{base}:/opt/ml")
    assert container.wait() == 1
    failure = (base / "output/failure").read_text()
    assert failure.startswith("ClientError: The instance is ml.g5.xlarge. No GPU can be used: libcuda.so.1, ")


def test_the_default_pretrained_backbone_is_asked_for_by_name(
    start: Callable[..., Any], new_job: Callable[..., Path]
) -> None:
    """For an image built without --with-weights."""
    base = new_job(use_pretrained_model="True")
    container = start("--network", "none", "--volume", f"{base}:/opt/ml")
    assert container.wait() == 1
    failure = (base / "output/failure").read_text()
    assert "resnet50_v1s-25a187fa.params" in failure
    assert "--with-weights" in failure


@pytest.mark.req("R7")
def test_an_image_with_weights_starts_from_them_without_a_network(
    start: Callable[..., Any], new_job: Callable[..., Path], tmp_path: Path
) -> None:
    """Random weights, mounted where scripts/build-image --with-weights puts GluonCV's."""
    mx = runtime.load()
    from gluoncv.model_zoo import resnet50_v1s

    classifier = resnet50_v1s()
    classifier.initialize()
    classifier(mx.nd.zeros((1, 3, 32, 32)))
    classifier.save_parameters(str(tmp_path / "resnet50_v1s-imported.params"))
    tmp_path.chmod(0o755)
    base = new_job(use_pretrained_model="True")
    container = start("--network=none", "--volume", f"{base}:/opt/ml", "--volume", f"{tmp_path}:/opt/mxnet/models:ro")
    assert container.wait() == 0, container.log()
    assert (base / "model/model_best.params").is_file()


def test_every_command_is_a_word_of_the_image(
    docker: Callable[..., subprocess.CompletedProcess[str]], image: str
) -> None:
    usage = docker("run", "--rm", image, "--help").stdout
    commands = [line.split()[0] for line in usage.partition("COMMAND")[2].splitlines() if line.startswith("    ")]
    assert {"train", "serve", "check", "pipe"} <= set(commands)
    loop = 'for word do command -v "$word"; done; true'
    programs = docker("run", "--rm", image, "sh", "-c", loop, "-", *commands).stdout.split()
    assert [path for path in programs if path.startswith("/")] == ["/opt/semseg/bin/train", "/opt/semseg/bin/serve"]


def test_other_programs_run_as_they_are(
    docker: Callable[..., subprocess.CompletedProcess[str]], image: str, tmp_path: Path
) -> None:
    """SageMaker's SDK 3 runs this chmod after a job in local mode if it cannot remove the container's files."""
    (tmp_path / "file").touch(mode=0o600)
    docker("run", "--rm", "--volume", f"{tmp_path}:/delete", image, "chmod", "-R", "777", "/delete")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o777
