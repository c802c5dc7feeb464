"""A training that is killed or stopped, and started again as the platform does: with its checkpoints alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semseg.artifact.params import digest

FILES = ("model_algo-1", "model_best.params")


def configure(job: Any, **changes: str) -> Path:
    """Checkpoints after each update, in the directory returned."""
    directory: Path = job.paths.base / "kept here"
    config = {"S3Uri": "s3://bucket/checkpoints", "LocalPath": str(directory)}
    job.paths.checkpoint_config.write_text(json.dumps(config))
    quick = {"_export_onnx": "False", "_checkpoint_minutes": "0.000001", "_logging_frequency": "1"}
    job.configure(**(quick | changes))
    return directory


def lose_all_but_checkpoints(job: Any) -> None:
    """A new container has what was in S3."""
    for directory in (job.paths.model, job.paths.output_data.parent):
        shutil.rmtree(directory, ignore_errors=True)


def outcome(job: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """The parameters' digests, and what is told of the epochs but for the speeds."""
    lines = (job.paths.output_data / "metrics.jsonl").read_text().splitlines()
    epochs = [
        {k: v for k, v in json.loads(line).items() if not k.endswith(("throughput", "waiting"))} for line in lines
    ]
    return [digest(job.paths.model / name) for name in FILES], epochs


def test_a_training_killed_and_stopped_ends_as_one_left_alone(new_job: Callable[..., Any]) -> None:
    left_alone, job = new_job(), new_job()
    left_alone.configure(_export_onnx="False")
    code, log = left_alone.run()
    assert code == 0, log

    directory = configure(job)
    code, _ = job.run_until("checkpoint-0000-000001.params", signal.SIGKILL)
    assert code == -signal.SIGKILL
    lose_all_but_checkpoints(job)

    code, rest = job.run_until("epoch: 0, train throughput")  # what comes next is the validation
    assert code == 0, rest
    assert f"Checkpoint saved to {directory}/checkpoint-0000-000002.params" in rest
    assert (job.paths.model / "model_algo-1").exists()
    lose_all_but_checkpoints(job)

    code, log = job.run()
    assert code == 0, log
    assert f"Training goes on from {directory}/checkpoint-0000-000002.params: epoch 0, after 2 iterations." in log
    assert "epoch: 0, train loss" not in log  # nor is the pass over the training data made again
    assert outcome(job) == outcome(left_alone)
    assert len(list(directory.iterdir())) == 3

    configure(job, optimizer="adam", epochs="3")
    code, log = job.run()
    assert code == 1
    failure = job.paths.failure.read_text()
    assert failure.startswith("ClientError: The checkpoint ")
    assert "optimizer was sgd, now it is adam." in failure
    assert "epochs" not in failure


@pytest.mark.parametrize("name", [".model_best.params.partial", "checkpoint-0000-000001.params.sagemaker-ignore"])
def test_a_full_disk_ends_the_job_with_the_folder_and_the_way_out(job: Any, name: str) -> None:
    """Half of a file on a full disk would pass for a model, and exit code 2 for a defect of ours."""
    job.paths.model.mkdir()
    directory = configure(job, epochs="1")
    place = directory if name.startswith("checkpoint") else job.paths.model
    with job.start() as process:
        assert process.stdout
        for line in process.stdout:
            if "Number of GPUs" in line:
                (place / name).symlink_to("/dev/full")
                break
        process.communicate(timeout=60)
    assert process.returncode == 1
    failure = job.paths.failure.read_text()
    assert failure.startswith(f"ClientError: The disk is full: there is no room in {place}. Give the job a larger")
    assert not list(job.paths.model.iterdir())
    assert not (place / name).is_symlink()
