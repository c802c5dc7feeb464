from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from semseg.cli import main
from semseg.cli.options import option
from semseg.sagemaker.hyperparameters import rules


@pytest.mark.parametrize("epochs", ["-1", "0"])
def test_a_pipe_of_no_epochs_is_refused(epochs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pipe", "a.manifest", "data", "--epochs", epochs])
    assert end.value.code == 1
    assert f"argument --epochs: '{epochs}' is not valid: it must be a number from 1 up." in capsys.readouterr().err


def test_a_training_that_is_stopped_while_s3_is_busy_ends_well(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
    command = [sys.executable, "-m", "semseg", "train", "--no-checkpoints", "--train", "s3://bucket/train"]
    command += ["--validation", "s3://bucket/validation"]
    command += ["--num-classes", "2", "--label-attribute=-ref", "--class-weights", "0.5, 25"]
    job = "-my job \udcff"
    with subprocess.Popen(
        [*command, f"--job={job}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, errors="surrogateescape"
    ) as training:

        def busy(request: BaseHTTPRequestHandler) -> None:
            training.send_signal(signal.SIGTERM)
            request.send_error(503)

        store.answer = busy
        log, _ = training.communicate(timeout=120)
    assert training.returncode == 0
    assert "Stopped before the first training step" in log
    *_, told, again = log.splitlines()
    assert told == "This training has not saved a checkpoint yet. Start it again with:"
    assert sorted(shlex.split(again)) == sorted([*command, "--job", f"./{job}"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--job", "here"),
            "--job is given, but no channel. Give --train too; without it, the job in SAGEMAKER_BASE_DIR runs",
        ),
        (("--no-checkpoints",), "--no-checkpoints is given, but no channel."),
        (("--overwrite",), "--overwrite is given, but no channel."),
    ],
)
def test_options_of_a_training_need_a_channel(
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert main(["train", *options]) == 1
    assert capsys.readouterr().err.startswith(f"semseg: {said}")


def test_a_hyperparameter_without_a_channel_fails_the_job_that_is_laid_out(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semseg", "train", "--learning-rate=-1"]
    environ = os.environ | {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    failure = (tmp_path / "output/failure").read_text()
    fault = "--learning-rate is given, but no channel."
    way_out = "Give --train too; without it, the job in SAGEMAKER_BASE_DIR runs."
    assert failure == f"ClientError: {fault} {way_out}"
    assert not (tmp_path / ".semseg.lock").exists()


def test_a_hyperparameter_without_a_channel_is_no_option_for_the_job_that_is_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert main(["check", "--num-classes", "4"]) == 1
    assert capsys.readouterr().err == "semseg: --num-classes is given, but no channel. Give --train too.\n"


def test_checkpoints_are_kept_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--train", "a", "--checkpoints", "b", "--no-checkpoints"])
    assert end.value.code == 1
    assert "not allowed with argument --checkpoints" in capsys.readouterr().err


def test_without_a_job_train_explains_itself_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    monkeypatch.setattr("semseg.sagemaker.paths.DEFAULT_BASE", str(tmp_path / "opt-ml"))
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 1
    _, said = capsys.readouterr()
    assert "--num-classes INTEGER" in said
    assert said.splitlines()[-1].startswith(
        "semseg: There is nothing to train on: no channel is given, and there is no job"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("command", "do"), [("train", "train on"), ("check", "check")])
@pytest.mark.parametrize("options", [(), ("--num-classes", "4")])
def test_without_a_channel_and_a_job_no_folder_is_made_and_the_options_are_named(
    command: str,
    do: str,
    options: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    monkeypatch.setattr("semseg.sagemaker.paths.DEFAULT_BASE", str(tmp_path / "opt-ml"))
    monkeypatch.chdir(tmp_path)
    assert main([command, *options]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"semseg: There is nothing to {do}: no channel is given, and there is no job in /opt/ml. Give --train, "
        "--train-annotation, --split 0.2 and --num-classes; `semseg demo shapes` writes a data set to try it with."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "check"])
def test_all_wrong_hyperparameters_are_listed_by_their_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command, "--train", "x", "--crop_size=ten", "--algorithm", "fnc", "--class-weights", "1,2,x"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "semseg: 4 options are wrong:",
        "- --num-classes is missing.",
        "- --algorithm 'fnc' is not valid: it accepts one of the following: 'fcn', 'psp', 'deeplab'. "
        "Did you mean 'fcn'?",
        "- --crop-size 'ten' is not valid: it expects an integer from 17 up.",
        "- --class-weights '1,2,x' is not valid: it accepts 'none', 'auto' or numbers from 0 up such as '0.5, 25'.",
    ]
    assert not list(tmp_path.iterdir())


def test_help_has_the_type_the_default_and_the_choices_of_each_hyperparameter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    basic, further = shown.split("further hyperparameters:")
    for rule in rules():
        _, _, text = shown.partition(f" {option(rule.name)} ")
        described, _, _ = text.partition(" --")
        assert described.startswith("|".join(rule.options) if rule.kind == "WORD" else rule.kind)
        assert rule.default is None or described.rpartition("(")[2].startswith(f"default: {rule.default})")
    assert "--num-classes INTEGER" in basic
    assert "(required)" in basic
    assert "--weight-decay NUMBER" in further
