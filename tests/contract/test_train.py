"""`train` as a process: files, log, exit codes, failure file, signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.artifact.onnx_file import verify
from semseg.codecs.params import read_params, write_params
from semseg.files import sha256
from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.sagemaker.paths import Paths

Numbers = Callable[[str, str], list[str]]


def times_of_change(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}


class Trained:
    """A finished run, shared by the tests."""

    def __init__(self, job: Any) -> None:
        self.paths: Paths = job.paths
        self.stray = self.paths.channel("train") / "train_annotation"
        self.stray.mkdir()
        self.paths.resource_config.write_text(json.dumps({"current_host": "algo-1-abcde", "hosts": ["algo-1-abcde"]}))
        job.configure(crop_size="17", _logging_frequency="1", num_training_samples="8", _typo="1")
        self.written_before = times_of_change(self.paths.channel(""))
        self.code, self.log = job.run()
        self.epochs = [json.loads(line) for line in (self.paths.output_data / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(new_mxnet_job: Callable[..., Any]) -> Trained:
    """A run of two epochs over 10 images in batches of 4, validated on 5."""
    return Trained(new_mxnet_job())


@pytest.fixture(scope="module")
def numbers(metric_definitions: dict[str, str]) -> Numbers:
    """Returns a function that finds a metric's numbers in a log."""
    return lambda log, name: re.findall(metric_definitions[name], log)


@pytest.mark.req("R1", "R8", "R13", "R14", "R20", "R22", "R23")
def test_a_run_succeeds(trained: Trained) -> None:
    assert trained.code == 0, trained.log
    assert not trained.paths.failure.exists()


def test_channels_may_be_read_only(trained: Trained) -> None:
    """Those of FastFile mode are: nothing was written there."""
    assert times_of_change(trained.paths.channel("")) == trained.written_before


def test_the_artifact_has_the_built_in_algorithms_three_files_model_onnx_and_a_card(trained: Trained) -> None:
    names = {path.name for path in trained.paths.model.iterdir()}
    assert names == {"hyperparams.json", "model_best.params", "model_algo-1", "model.onnx", "README.md"}
    written = json.loads((trained.paths.model / "hyperparams.json").read_text())
    assert all(isinstance(value, str) for value in written.values())
    assert (written["algorithm"], written["backbone"], written["num_classes"]) == ("fcn", "resnet-50", "4")
    assert written["crop_size"] == "24"  # 17 rounded up to a multiple of 8


def test_model_onnx_was_made_from_the_best_parameters(trained: Trained) -> None:
    verify(trained.paths.model / "model.onnx", sha256(trained.paths.model / "model_best.params"))


def test_the_metric_definitions_find_every_epoch(
    trained: Trained, numbers: Numbers, metric_definitions: dict[str, str]
) -> None:
    found = {name: len(numbers(trained.log, name)) for name in metric_definitions}
    assert found == dict.fromkeys(metric_definitions, 2) | {"validation:final_mIOU": 1}
    assert numbers(trained.log, "train:progress") == ["50.0", "100.0"]
    assert "host: algo-1-abcde, epoch: 0, train loss" in trained.log


def test_the_log_has_the_built_in_algorithms_lines(trained: Trained) -> None:
    stamp = r"^\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d (?:INFO|WARNING) \d+\] "
    lines = [
        "Reading default configuration from .*: {'backbone': 'resnet-50', .*}",
        "Merging with provided configuration from .*/input/config/hyperparameters.json: {.*}",
        "Final configuration: {.*'num_classes': '4'.*}",
        "Checkpoint loading and saving are disabled.",
        f"{trained.stray} is not a readable image file",
        "label maps not provided, using defaults.",
        "#label_map train :{'scale': 1}",
        "#label_map validation :{'scale': 1}",
        "Number of GPUs being used: 0",
        "LRScheduler setup: iters per epoch: 2, num_epochs 2",
        r"#progress_notice. epoch: 0, iterations: 1 speed: \S+ samples/sec learning_rate: 0.000694",
        r"#progress_notice. epoch: 0, iterations: 1 speed: \S+ samples/sec",
        "Serializing model to .*/model/model_best.params",
        "Serializing model to .*/model/model_algo-1",
        "Test data is not provided.",
    ]
    for line in lines:
        assert re.search(stamp + line + "$", trained.log, re.MULTILINE), line
    assert re.search(r"^Process \d+ is a worker\.$", trained.log, re.MULTILINE)
    assert trained.log.startswith("Docker entrypoint called with argument(s): train\n")
    metrics = [json.loads(line[9:]) for line in trained.log.splitlines() if line.startswith("#metrics ")]
    assert [line["Dimensions"].get("Meta") for line in metrics] == [
        "init_train_data_iter",
        "training_data_iter",
        "training_data_iter",
        None,
    ]


def test_no_progress_bar_in_a_log(trained: Trained) -> None:
    assert "\r" not in trained.log
    assert "it/s" not in trained.log


def test_training_rolls_over_and_validation_counts_each_image_once(trained: Trained) -> None:
    """10 images in batches of 4: two batches, then the two left over and ten more make three."""
    notices = re.findall(r"epoch: (\d), iterations: (\d) speed: \S+ samples/sec learning_rate", trained.log)
    assert notices == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2"), ("1", "3")]
    validation = re.findall(r"epoch: 0, iterations: (\d) speed: \S+ samples/sec$", trained.log, re.MULTILINE)
    assert validation == ["1", "2"]


def test_warns_of_a_wrong_count_and_of_an_unknown_private_name(trained: Trained) -> None:
    assert "num_training_samples is 8, but the train channel has 10 pairs" in trained.log
    assert "'_typo' is unknown and has no effect" in trained.log


def test_the_metrics_files_agree_with_the_log(trained: Trained, numbers: Numbers) -> None:
    assert [str(epoch["train_loss"]) for epoch in trained.epochs] == numbers(trained.log, "train:loss")
    assert [str(epoch["mIOU"]) for epoch in trained.epochs] == numbers(trained.log, "validation:mIOU")
    assert all(len(epoch["IOU"]) == 4 for epoch in trained.epochs)
    summary = json.loads((trained.paths.output_data / "metrics.json").read_text())
    assert summary["last"] == trained.epochs[-1]
    assert summary["best"]["mIOU"] == max(epoch["mIOU"] for epoch in trained.epochs)


def test_int8_is_in_the_artifact_if_it_is_as_good(job: Any) -> None:
    """An untrained network may lose too much; the log has both numbers in any case."""
    job.configure(_quantize="True")
    code, log = job.run()
    assert code == 0, log
    int8 = json.loads((job.paths.output_data / "metrics.json").read_text())["int8"]
    assert int8["pictures"] == 5
    assert int8["kept"] == (int8["mIOU_f32"] - int8["mIOU_int8"] <= 0.005)
    assert (job.paths.model / "model_int8.onnx").exists() == int8["kept"]
    (reported,) = [line for line in log.splitlines() if "in int8:" in line]
    numbers = (str(int8["mIOU_f32"]), str(int8["mIOU_int8"]), "5 images", "kept" if int8["kept"] else "discarded")
    assert all(number in reported for number in numbers)


@pytest.mark.req("R4", "R6")
def test_whole_images_of_any_size_validate(new_mxnet_job: Callable[..., Any], numbers: Numbers) -> None:
    """The built-in algorithm crashed here: concat of [1,0,64,80] and [1,256,30,30] (deep-learning-containers #902).

    Each network's classes on images of odd sizes are compared in tests/parity/test_training.py.
    """
    job = new_mxnet_job(train=4, validation=2, size=(64, 51))
    odd = next(job.paths.channel("validation").iterdir())
    mask = job.paths.channel("validation_annotation") / f"{odd.stem}.png"
    for path in (odd, mask):
        with Image.open(path) as image:
            image.crop((0, 0, 37, 45)).save(path)
    for name in ("", "_annotation"):
        shutil.copytree(job.paths.channel(f"validation{name}"), job.paths.channel(f"test{name}"))
    quick = {"validation_mini_batch_size": "1", "epochs": "1", "_export_onnx": "False"}
    job.configure(algorithm="psp", _class_weights="auto", _loss="dice+ce", **quick)
    code, log = job.run()
    assert code == 0, log
    assert re.search(r"Class weights: [\d.]+, [\d.]+, [\d.]+, [\d.]+$", log, re.MULTILINE)
    (mean_iou,) = numbers(log, "validation:mIOU")
    whole = json.loads((job.paths.output_data / "metrics.json").read_text())["whole_pictures"]
    assert whole["validation"] == whole["test"]  # the same images
    assert whole["test"]["pictures"] == 2
    assert whole["test"]["mIOU"] == pytest.approx(float(mean_iou), abs=0.01)
    assert f"#final_metric. host: algo-1, test mIOU: {whole['test']['mIOU']} ." in log
    assert "Test data is not provided." not in log


def fails(job: Any, code: int, reason: str) -> None:
    """Runs the job and expects its end: exit code and reason, the same in log and failure file."""
    found, log = job.run()
    assert found == code, log
    failure = job.paths.failure.read_text()
    assert failure.startswith(reason)
    assert len(failure) < 1024
    assert reason in log
    assert not list(job.paths.model.glob("*"))


@pytest.mark.needs("mxnet")
def test_a_gpu_that_is_required_and_cannot_be_used_fails(mxnet_job: Any) -> None:
    mxnet_job.configure(_device="gpu")
    reason = "ClientError: _device is gpu. No GPU can be used: MXNet's cpu variant is installed. Use the gpu image"
    fails(mxnet_job, 1, reason)


def test_a_gpu_instance_on_which_the_cpu_trains_is_warned_about(job: Any) -> None:
    job.paths.resource_config.write_text(json.dumps({"current_instance_type": "ml.g5.xlarge"}))
    code, log = job.run()
    assert code == 0, log
    (warning,) = [line for line in log.splitlines() if "ml.g5.xlarge" in line]
    assert "trains on the CPU" in warning


def test_a_training_that_is_killed_leaves_a_failure(job: Any) -> None:
    code, _ = job.run_until("Final configuration", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert job.paths.failure.read_text().startswith(
        "AlgorithmError: The training process died without reporting a reason"
    )


@pytest.mark.req("R24")
def test_a_missing_channel_fails(job: Any) -> None:
    shutil.rmtree(job.paths.channel("validation_annotation"))
    fails(job, 1, "ClientError: Missing required channel: validation_annotation")


def test_a_wrong_hyperparameter_fails_in_the_built_in_algorithms_words(job: Any) -> None:
    job.configure(optimizer="adadelta")
    fails(
        job,
        1,
        "ClientError: The value 'adadelta' is not valid for the 'optimizer' hyperparameter which accepts one of the "
        f"following: {', '.join(map(repr, OPTIMIZERS))} (caused by ValidationError)",
    )


def test_a_training_that_diverges_fails_with_place_and_files(job: Any) -> None:
    """Here because of the biases it starts from, which are as large as they can be."""
    assert job.run()[0] == 0
    channel = job.paths.model.rename(job.paths.channel("model"))
    arrays = dict(read_params(channel / "model_best.params"))
    arrays["last.bias"] = np.array([3e38, -3e38, 3e38, -3e38], np.float32)
    (channel / "model_best.params").unlink()
    write_params(channel / "model_best.params", arrays)
    reason = "The loss is inf after 0 epochs and 1 iteration: the training has diverged. The batch contained train/"
    fails(job, 1, f"ClientError: {reason}")
    assert "_gradient_clip" in job.paths.failure.read_text()


@pytest.mark.needs("mxnet")
@pytest.mark.req("R55")
def test_two_hosts_fail_clearly(mxnet_job: Any) -> None:
    hosts = {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"], "network_interface_name": "none"}
    mxnet_job.paths.resource_config.write_text(json.dumps(hosts))
    mxnet_job.configure(_engine="mxnet")  # others may train on several hosts, and would wait for the second one
    fails(mxnet_job, 1, "ClientError: The job has 2 hosts, but MXNet trains on a single machine. Set InstanceCount to")


@pytest.mark.req("R7")
def test_absent_backbone_weights_fail_with_the_ways_out(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MXNET_HOME", str(job.paths.base / "nowhere"))
    job.configure(use_pretrained_model="True")
    fails(job, 1, "ClientError: use_pretrained_model is True, but")
    failure = job.paths.failure.read_text()
    for words in ("SEMSEG_OFFLINE is set", "Set use_pretrained_model to False", "--with-weights", "import-weights"):
        assert words in failure
    assert not (job.paths.output_data / "data_report.json").exists()  # it fails before all data is read


def test_wrong_data_fails_with_all_that_is_wrong(job: Any) -> None:
    images = sorted(job.paths.channel("train").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:200])
    images[1].unlink()
    Image.new("L", (48, 40), 9).save(job.paths.channel("validation_annotation") / f"{mask_stem(job)}.png")
    found, log = job.run()
    failure = job.paths.failure.read_text()
    assert found == 1
    assert images[0].name in failure
    assert images[1].stem in failure
    assert mask_stem(job) in failure
    assert "Traceback" not in log


def mask_stem(job: Any) -> str:
    stem: str = sorted(path.stem for path in job.paths.channel("validation").iterdir())[0]
    return stem


def test_sigterm_saves_the_current_model_and_ends_well(mxnet_job: Any) -> None:
    mxnet_job.configure(epochs="1000", _logging_frequency="1", _export_onnx="False")
    code, rest = mxnet_job.run_until("#progress_notice")
    assert code == 0, rest
    assert (mxnet_job.paths.model / "model_algo-1").stat().st_size > 100_000_000
    assert (mxnet_job.paths.model / "hyperparams.json").exists()
    assert not mxnet_job.paths.failure.exists()
    assert "Stopping on request" in rest


def test_sigterm_before_training_ends_well(job: Any) -> None:
    code, rest = job.run_until("Final configuration")
    assert code == 0, rest
    assert not Path(job.paths.failure).exists()


def test_a_terminal_shows_a_progress_bar(job: Any) -> None:
    job.configure(epochs="1", _export_onnx="False")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with job.start(stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal raises when its last user is gone
            while piece := os.read(ours, 1 << 16):
                shown += piece
        log, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, log
    assert b"epoch 1 training" in shown
    assert b"epoch 1 validation" in shown
    assert "it/s" not in log
