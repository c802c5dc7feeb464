from __future__ import annotations

import hashlib
import io
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from semseg.cli import main
from semseg.networks import timm
from semseg.networks.backbones import PRETRAINED
from semseg.version import __version__


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("argv", [[], ["trane"], ["train", "--fast"]])
def test_an_unknown_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: semseg" in capsys.readouterr().err


@pytest.mark.parametrize("epochs", ["-1", "0"])
def test_a_pipe_of_no_epochs_is_refused(epochs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipe", "a.manifest", "data", "--epochs", epochs]) == 1
    assert capsys.readouterr().err == f"semseg: --epochs is {epochs}. Give 1 or more, or leave it out.\n"


@pytest.mark.req("R22")
def test_demo_writes_the_four_directories_and_overlay_shows_a_pair(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"train", "train_annotation", "validation", "validation_annotation"}
    image, mask, out = tmp_path / "train/0000.jpg", tmp_path / "train_annotation/0000.png", tmp_path / "overlay.png"
    assert main(["overlay", str(image), str(mask), str(out)]) == 0
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("overlay", "absent.jpg", "mask.png", "out.png"), "absent.jpg cannot be read: No such file or directory."),
        (("demo", "/proc/shapes"), "[Errno 2] No such file or directory: '/proc/shapes"),
    ],
)
def test_a_file_that_is_not_there_or_cannot_be_written_is_named(
    command: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(f"semseg: {said}")


def test_fetch_weights_puts_both_backbones_into_mxnets_home(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sha1 = hashlib.sha1(b"content", usedforsecurity=False).hexdigest()
    names = [f"resnet50_v1s-{sha1[:8]}.params", f"resnet101_v1s-{sha1[:8]}.params"]
    for backbone, pretrained in PRETRAINED.items():
        monkeypatch.setitem(PRETRAINED, backbone, replace(pretrained, sha1=sha1))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    store.has(buffer.getvalue())
    paths = [tmp_path / "mxnet/models" / name for name in names]

    assert main(["fetch-weights", "resnet-101"]) == 0
    assert not paths[0].exists()
    assert main(["fetch-weights"]) == 0
    assert [path.read_bytes() for path in paths] == [b"content", b"content"]
    assert len(store.asked) == 2
    assert {str(path) for path in paths} <= set(capsys.readouterr().out.splitlines())


def test_fetch_weights_tells_what_cannot_be_had(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch-weights"]) == 1
    address = f"{store.url}/gluon/models/resnet50_v1s-25a187fa.zip"
    assert capsys.readouterr().err == f"semseg: {address} answers 404 Not Found.\n"


@pytest.mark.parametrize("options", [[], ["--out", "out"]])
def test_import_weights_names_its_file_and_where_it_goes(
    options: list[str], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def import_backbone(source: Path, folder: Path) -> Path:
        return folder / source.name

    monkeypatch.setattr(timm, "import_backbone", import_backbone)
    assert main(["import-weights", "given", *options]) == 0
    folder = Path("out") if options else tmp_path / "mxnet/models"
    assert capsys.readouterr().out == f"{folder / 'given'}\n"


def test_import_weights_refuses_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-weights", str(tmp_path / "absent")]) == 1
    assert f"semseg: {tmp_path}/absent is not there." in capsys.readouterr().err


def test_fetch_weights_knows_two_backbones(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fetch-weights", "resnet-50", "resnet-152"])
    assert end.value.code == 2
    assert "'resnet-152' is neither resnet-50 nor resnet-101" in capsys.readouterr().err
    assert store.asked == []


def test_a_training_that_is_told_to_stop_while_s3_is_busy_ends_well(
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
    assert told == "There is no checkpoint of this training. This begins it again:"
    assert sorted(shlex.split(again)) == sorted([*command, "--job", f"./{job}"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--job", "here"), "--job is given, but no channel. Give --train too; SAGEMAKER_BASE_DIR names"),
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
