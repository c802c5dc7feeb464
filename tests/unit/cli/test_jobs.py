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


@pytest.mark.parametrize("epochs", ["-1", "0"])
def test_a_pipe_of_no_epochs_is_refused(epochs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipe", "a.manifest", "data", "--epochs", epochs]) == 1
    assert capsys.readouterr().err == f"semseg: --epochs is {epochs}. Give 1 or more, or leave it out.\n"


def test_a_training_that_is_stopped_while_s3_is_busy_ends_well(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
    command = [sys.executable, "-m", "semseg", "train", "--no-checkpoints", "--train", "s3://bucket/train"]
    command += ["--learning-rate=-1", "--class-weights", "0.5, 25"]
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
    assert told == "There is no checkpoint of this training. Start it again with:"
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
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options]) == 1
    assert capsys.readouterr().err.startswith(f"semseg: {said}")


def test_a_hyperparameter_without_a_channel_fails_the_job_that_is_laid_out(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semseg", "train", "--learning-rate=-1"]
    environ = os.environ | {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    failure = (tmp_path / "output/failure").read_text()
    assert failure == "ClientError: --learning-rate is given, but no channel. Give --train too."
    assert not (tmp_path / ".semseg.lock").exists()


def test_checkpoints_are_kept_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--train", "a", "--checkpoints", "b", "--no-checkpoints"])
    assert end.value.code == 2
    assert "not allowed with argument --checkpoints" in capsys.readouterr().err
