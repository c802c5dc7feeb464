"""A training that is killed or stopped, and started again as the platform does: with its checkpoints alone."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_learner import SmallEngine, small_training
from small_train import CONTINUE

from semseg.codecs.params import read_params, write_params
from semseg.data.s3 import ObjectStore
from semseg.engines.choose import Trainer
from semseg.engines.protocols import Device
from semseg.files import sha256
from semseg.reporting.events import EpochEnded, EpochTrained, EpochValidated
from semseg.sagemaker.channels import read_channels
from semseg.sagemaker.hyperparameters import parse
from semseg.training.checkpoints import Checkpoints
from semseg.training.components import build_learner
from semseg.training.inputs import fingerprint, open_inputs
from semseg.training.progress import Progress
from semseg.training.recipe import train

FILES = ("model_algo-1", "model_best.params")


def configure(job: Any, **changes: str) -> Path:
    """Makes the job save a checkpoint after each update, in the directory returned."""
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
    """Returns the parameters' digests, and what is reported on the epochs except the speeds."""
    lines = (job.paths.output_data / "metrics.jsonl").read_text().splitlines()
    epochs = [
        {k: v for k, v in json.loads(line).items() if not k.endswith(("throughput", "waiting"))} for line in lines
    ]
    return [sha256(job.paths.model / name) for name in FILES], epochs


def test_with_mxnet_a_killed_training_ends_bit_for_bit_as_one_left_alone(
    new_mxnet_job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed amid an epoch; on two threads, whose sums must not depend on which is first."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    left_alone, job = (new_mxnet_job(train=12, validation=1) for _ in range(2))
    left_alone.configure(epochs="1", _export_onnx="False")
    code, log = left_alone.run()
    assert code == 0, log

    directory = configure(job, epochs="1")
    code, _ = job.run_until("checkpoint-0000-000001.params", signal.SIGKILL)
    assert code == -signal.SIGKILL
    lose_all_but_checkpoints(job)
    configure(job, epochs="1", _checkpoint_minutes="60")
    code, log = job.run()
    assert code == 0, log
    assert f"Training resumes from {directory}/checkpoint-0000-000001.params, after 0 epochs and 1 iteration." in log
    assert outcome(job) == outcome(left_alone)


def test_a_training_killed_and_stopped_ends_as_one_left_alone(new_job: Callable[..., Any]) -> None:
    left_alone, job = new_job(), new_job()
    left_alone.configure(_export_onnx="False")
    code, log = left_alone.run()
    assert code == 0, log

    directory = configure(job)
    code, _ = job.run_until("checkpoint-0000-000001.params", signal.SIGKILL)
    assert code == -signal.SIGKILL
    lose_all_but_checkpoints(job)

    stop = threading.Event()
    stop.set()  # while the data is checked, after which there is no step
    with small_training():
        train(job.paths, stop)
    (checkpoint,) = directory.iterdir()
    kept = read_params(checkpoint)
    for name, array in read_params(job.paths.model / "model_algo-1").items():
        np.testing.assert_array_equal(array, kept[f"learner/parameter/{name}"])
    lose_all_but_checkpoints(job)

    code, rest = job.run_until("epoch: 0, train throughput")  # followed by the validation
    assert code == 0, rest
    assert f"Checkpoint saved to {directory}/checkpoint-0000-000002.params" in rest
    assert (job.paths.model / "model_algo-1").exists()
    lose_all_but_checkpoints(job)

    code, log = job.run()
    assert code == 0, log
    assert f"Training resumes from {directory}/checkpoint-0000-000002.params, after 0 epochs and 2 iterations." in log
    assert "epoch: 0, train loss" not in log  # the pass over the training data is not repeated
    assert outcome(job) == outcome(left_alone)
    assert len(list(directory.iterdir())) == 3


def test_a_training_with_other_hyperparameters_or_data_is_not_resumed(job: Any) -> None:
    configure(job)
    code, log = job.run()
    assert code == 0, log

    configure(job, optimizer="adam", epochs="3")
    code, log = job.run()
    assert code == 1
    failure = job.paths.failure.read_text()
    assert failure.startswith("ClientError: The checkpoint ")
    assert "optimizer was sgd, now it is adam." in failure
    assert "epochs" not in failure

    configure(job)
    for folder, suffix in (("train", "jpg"), ("train_annotation", "png")):
        channel = job.paths.channel(folder)
        first = min(channel.glob(f"*.{suffix}"))
        first.rename(first.with_stem("another"))
    code, log = job.run()
    assert code == 1
    assert "the SHA-256 of their names in train was " in job.paths.failure.read_text()


def test_a_stop_before_the_first_record_of_a_pipe_leaves_the_model_of_the_checkpoint(job: Any, tmp_path: Path) -> None:
    """Nobody writes to the pipes: there is only what an earlier container left."""
    piped = {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO", "ContentType": "application/x-recordio"}
    job.paths.input_data_config.write_text(json.dumps({"train": piped, "validation": piped}))
    shutil.rmtree(job.paths.channel(""))
    directory = configure(job, num_training_samples="8")
    settings, _ = parse(json.loads(job.paths.hyperparameters.read_text()))
    with ObjectStore() as store:
        data = fingerprint(open_inputs(read_channels(job.paths), settings.num_classes, store))
    with small_training():
        learner = build_learner(settings, None, None, None, Trainer(SmallEngine(), Device("CPU"), "float32"))
    write_params(tmp_path / "best", learner.parameters())
    trained, validated = EpochTrained(0, 2, 1.5, 0.001, 9.0, 0.0), EpochValidated(0, 1.5, 0.9, 0.5, None, [None], 8.0)
    progress = Progress((EpochEnded(trained, validated, 2, True),))
    Checkpoints(directory, settings.as_strings() | data).save(progress, learner.state(), tmp_path / "best")

    code, log = job.run_until("LRScheduler setup")
    assert code == 0, log
    assert [sha256(job.paths.model / name) for name in FILES] == [sha256(tmp_path / "best")] * 2
    assert "Stopping on request: saving the current model." in log


def test_a_full_disk_ends_the_job_with_the_folder_and_the_way_out(job: Any) -> None:
    """Half of a file on a full disk would pass for a model, and exit code 2 for a bug in this project."""
    job.paths.model.mkdir()
    place, name = configure(job, epochs="1"), "checkpoint-0000-000001.params.sagemaker-ignore"
    with job.start(hold_at="LRScheduler setup") as process:
        assert process.stdout
        next(line for line in process.stdout if "LRScheduler setup" in line)
        (place / name).symlink_to("/dev/full")
        process.send_signal(CONTINUE)
        process.communicate(timeout=60)
    assert process.returncode == 1
    failure = job.paths.failure.read_text()
    assert failure.startswith(f"ClientError: The disk is full: no space is left in {place}. Give the job a larger")
    assert not list(job.paths.model.iterdir())
    assert not (place / name).is_symlink()
