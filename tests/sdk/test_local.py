"""Tests of the README's local mode: the SDKs train and serve with the image on this machine's Docker engine."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

ARTIFACT = {"hyperparams.json", "model_best.params", "model_algo-1"}
KEEP = """
mask.save("mask.png")
np.save("probabilities.npy", probabilities)
"""


def program(blocks: dict[str, str], *names: str) -> list[str]:
    """Blocks of the README, with a crop that fits the small images and is quick."""
    return [blocks[name].replace('"crop_size": 64', '"crop_size": 24') for name in names]


@pytest.fixture(scope="module")
def v2(workplace: Callable[[str], Any], blocks: dict[str, str]) -> tuple[Any, str]:
    """The workplace where SDK 2 has trained, deployed, predicted and transformed, and its output."""
    place = workplace("v2")
    done = place.run(*program(blocks, "shared", "local", "v2"), KEEP, SAGEMAKER_SUPPRESS_V2_WARNING="1")
    assert done.returncode == 0, done.stdout
    return place, done.stdout


def test_sdk_2_trains(v2: tuple[Any, str]) -> None:
    place, log = v2
    with tarfile.open(place.folder / "jobs/model.tar.gz") as archive:
        assert set(archive.getnames()) >= ARTIFACT
    assert "#quality_metric. host: algo-1-" in log


@pytest.mark.req("R10", "R11", "R12", "R52", "R53")
def test_sdk_2_predicts_masks_and_probabilities_that_agree(v2: tuple[Any, str]) -> None:
    folder = v2[0].folder
    with Image.open(folder / "mask.png") as image:
        assert (image.mode, image.size) == ("L", (48, 40))
        mask = np.asarray(image)
    probabilities = np.load(folder / "probabilities.npy")
    assert (probabilities.shape, probabilities.dtype) == ((1, 4, 40, 48), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities[0].argmax(axis=0), mask)


def test_sdk_2_transforms_a_folder_to_masks(v2: tuple[Any, str]) -> None:
    folder = v2[0].folder
    assert {path.name for path in (folder / "jobs/masks").iterdir()} == {f"000{number}.jpg.out" for number in range(4)}
    with Image.open(folder / "jobs/masks/0000.jpg.out") as batch, Image.open(folder / "mask.png") as online:
        assert batch.format == "PNG"
        np.testing.assert_array_equal(np.asarray(batch), np.asarray(online))


def test_the_containers_of_sdk_2_have_ended(v2: tuple[Any, str]) -> None:
    """Two servers and the job before them. Servers' exit codes are not checked: SDK 2 stops Compose twice."""
    states = [container["State"] for container in v2[0].containers()]
    assert [state["Status"] for state in states] == ["exited"] * 3
    assert states[-1]["ExitCode"] == 0


def test_sdk_2_shows_why_a_job_failed(workplace: Callable[[str], Any], blocks: dict[str, str]) -> None:
    place = workplace("v2")
    training = blocks["v2"].partition("predictor = ")[0]
    pieces = program(blocks, "shared", "local")
    done = place.run(*pieces, 'hyperparameters["num_classes"] = 1', training, SAGEMAKER_SUPPRESS_V2_WARNING="1")
    assert done.returncode == 1
    assert "num_classes" in done.stdout
    assert "RuntimeError: Failed to run" in done.stdout
    assert [container["State"]["ExitCode"] for container in place.containers()] == [1]


def test_sdk_3_trains_and_clears_up(workplace: Callable[[str], Any], blocks: dict[str, str]) -> None:
    """SDK 3 passes no command, and runs `chmod` in the image to remove the container's files."""
    place = workplace("v3")
    done: subprocess.CompletedProcess[str] = place.run(*program(blocks, "shared", "v3 local"))
    assert done.returncode == 0, done.stdout
    assert "#quality_metric. host: algo-1, epoch: 0, validation mIOU: " in done.stdout
    with tarfile.open(place.folder / "compressed_artifacts/model.tar.gz") as archive:
        assert set(archive.getnames()) >= ARTIFACT
        hyperparams = archive.extractfile("hyperparams.json")
        assert hyperparams
        assert json.load(hyperparams)["crop_size"] == "24"
    assert not (place.folder / "algo-1").exists()
