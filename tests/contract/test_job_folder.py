"""`semseg train` in a folder of the user's: nothing that was trained there is lost, whatever interrupts it."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import small_train
from quick_job import QUICK

from semseg.data.shapes import write_shapes

MODEL = (
    "model_best.params",
    "model_algo-1",
    "model.onnx",
    "model_int8.onnx",
    "hyperparams.json",
    "classes.json",
    "README.md",
)
RESULTS = ("metrics.json", "metrics.jsonl", "data_report.json", "report.html")
OFTEN = ("--checkpoint-minutes", "0.000001")
CHANNELS = ("train", "train_annotation", "validation", "validation_annotation")


@dataclass(frozen=True)
class Training:
    """A quick training in a folder, as a process. program: `semseg`, with a small network."""

    folder: Path
    shapes: Path
    program: Path

    def command(self, *options: str) -> list[str]:
        words = [str(self.program), "train", "--job", str(self.folder)]
        for name in CHANNELS:
            words += [f"--{name.replace('_', '-')}", str(self.shapes / name)]
        for name, value in QUICK.items():
            words += [f"--{name.replace('_', '-')}", value]
        return [*words, *options]

    def earlier(self) -> dict[str, str]:
        """Writes a complete model of an earlier training, whose files say so; returns the digests of all."""
        for directory, names in (("model", MODEL), ("output/data", RESULTS)):
            (self.folder / directory).mkdir(parents=True)
            for name in names:
                (self.folder / directory / name).write_text(f"{name} of an earlier training")
        return self.digests()

    def digests(self) -> dict[str, str]:
        """Returns the digests of the model's files and of the results, by name."""
        files = [path for name in ("model", "output/data") for path in sorted((self.folder / name).iterdir())]
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """A training of two epochs with two iterations each, in a folder with a space in its name."""
    write_shapes(tmp_path / "shapes", train=8, validation=4, size=(48, 40), seed=1)
    program = tmp_path / "semseg"
    program.symlink_to(small_train.__file__)
    return Training(tmp_path / "my job", tmp_path / "shapes", program)


@contextmanager
def started(command: Sequence[str], words: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process whose output can be read, which waits for a signal at the first line with these words, if given.

    It is killed after five minutes, and at the end.
    """
    environ = os.environ | {"PYTHONUNBUFFERED": "1", small_train.HOLD_AT: words}
    with subprocess.Popen(
        [sys.executable, *command], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch = threading.Timer(300, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


def run(command: Sequence[str], words: str = "", number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Runs a command to its end, with a signal at the first line with these words; returns exit code and output."""
    with started(command, words) as process:
        assert process.stdout
        output = ""
        for line in process.stdout:
            output += line
            if words and words in line:
                process.send_signal(number)
                break
        rest, _ = process.communicate()
    return process.returncode, output + rest


def test_what_was_trained_stays_until_there_is_more_and_goes_on_where_it_was_stopped(training: Training) -> None:
    """A training in a folder with a model, stopped before its first validation, then after it, then left alone."""
    earlier = training.earlier()
    command = training.command("--logging-frequency", "1", "--export-onnx", "False")
    code, output = run(command)
    assert code == 1
    assert f"semseg: {training.folder} holds a trained model (model_best.params, model_algo-1, " in output
    assert "Give --overwrite to train a new one" in output
    assert "or another --job." in output
    assert training.digests() == earlier

    code, output = run([*command, "--overwrite"], "#progress_notice. epoch: 0, iterations: 1")
    assert code == 0, output
    assert f"Stopped before the first validation: the earlier model is kept in {training.folder}/model." in output
    assert training.digests() == earlier
    *_, before, resuming = output.splitlines()
    assert before == "Resume from the last checkpoint with:"
    program, *words = shlex.split(resuming)
    assert program == command[0]
    assert sorted(words) == sorted(command[1:])

    code, output = run(shlex.split(resuming), "epoch: 0, validation mIOU", signal.SIGTERM)
    assert code == 0, output
    assert f"Training resumes from {training.folder}/checkpoints/checkpoint-0000-" in output
    names = {"model/model_best.params", "model/model_algo-1", "model/hyperparams.json", "model/README.md"}
    after = training.digests()
    assert after.keys() == names | {f"output/data/{name}" for name in RESULTS}
    assert not set(after.values()) & set(earlier.values())
    assert output.splitlines()[-1] == resuming

    code, output = run([*command, "--optimizer", "adam"])
    assert code == 1
    assert "optimizer was sgd, now it is adam. Restore these values to resume it, or give --job " in output
    assert f"--job '{training.folder}' --overwrite to start a new training" in output
    assert training.digests() == after

    code, output = run(command, "#label_map validation")
    assert code == 0, output
    assert training.digests() == after
    assert output.splitlines()[-1] == resuming

    code, output = run(command)
    assert code == 0, output
    assert f"Training resumes from {training.folder}/checkpoints/checkpoint-0001-" in output
    assert not list(training.folder.glob("checkpoints/*.params"))
    assert "checkpoint:\n" not in output
    code, output = run(command)
    assert code == 1
    assert "holds a trained model" in output


@pytest.mark.parametrize(
    ("words", "options"), [("Final configuration", ()), ("Checkpoint saved", OFTEN), ("Removing ", ())]
)
def test_a_killed_training_leaves_one_model_and_not_parts_of_two(
    training: Training, words: str, options: tuple[str, ...]
) -> None:
    earlier = training.earlier()
    code, output = run(training.command("--overwrite", *options), words, signal.SIGKILL)
    assert code == -signal.SIGKILL, output
    after = {name: value for name, value in training.digests().items() if not name.endswith(".partial")}
    if words != "Removing ":
        assert after == earlier
    old = {name for name, value in after.items() if value == earlier.get(name)}
    params = "model/model_best.params"
    assert params in after
    assert old == after.keys() if params in old else not old


def test_a_folder_in_use_is_refused_and_free_again_once_its_process_is_killed(training: Training) -> None:
    command = training.command(*OFTEN)
    with started(command, "Checkpoint saved") as first:
        assert first.stdout
        next(line for line in first.stdout if "The folder of the job is" in line)
        checkpoints = ["--job", str(training.folder.with_name("other")), "--checkpoints"]
        for second in (command, [*command, *checkpoints, str(training.folder / "checkpoints")]):
            code, output = run(second)
            assert code == 1
            named = training.folder / "checkpoints" if second[-2] == "--checkpoints" else training.folder
            assert f"semseg: {named} is in use by another training (process {first.pid})." in output
        next(line for line in first.stdout if "Checkpoint saved" in line)
        first.kill()
        first.communicate()
    code, output = run(command, "#label_map train", signal.SIGTERM)
    assert code == 0, output
    assert output.splitlines()[-2] == "Resume from the last checkpoint with:"
