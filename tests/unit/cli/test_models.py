"""What the commands for models say about places that hold none, and where they find one."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from small_model import packed

from semseg.artifact.model_dir import write_label_maps
from semseg.cli import main

EXPECTED = "Give the folder of a model or of a job, or a model.tar.gz"


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["serve"],
        ["export", "--out=x.onnx"],
        ["export"],
        ["predict", "images", "--out=out"],
        ["evaluate", "--images=images", "--annotations=masks"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_no_model_is_named_with_what_it_holds(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/a.png").touch()
    (tmp_path / "map.json").write_text('{"scale": 3}')
    name, *options = command
    assert main([name, "map.json", *options]) == 1
    said = capsys.readouterr().err
    assert said == f"semseg: map.json is no packed model: it holds JSON text. {EXPECTED}, copied whole.\n"


def test_the_label_maps_of_the_training_are_shown(small_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_maps: dict[str, dict[str, Any]] = {"train": {"scale": "3"}, "validation": {"scale": "3"}}
    write_label_maps(small_dir, label_maps)
    assert main(["info", str(small_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label_maps"] == label_maps
    assert main(["info", str(small_dir)]) == 0
    assert 'label map  train: {"scale": "3"}\nlabel map  validation: {"scale": "3"}\n' in capsys.readouterr().out


@pytest.mark.parametrize("command", ["info", "serve"])
def test_one_file_of_a_model_leads_to_its_folder(
    command: str, small_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small_dir / "model_best.params"
    assert main([command, str(file)]) == 1
    assert capsys.readouterr().err == f"semseg: {file} is one file of a model. Give its folder, {small_dir}.\n"


def test_a_model_in_s3_is_described_and_exported(
    bucket: Any, small_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put_object(Key="job/output/model.tar.gz", Body=packed(small_dir))
    bucket.put_object(Key="other/notes.txt", Body=b"text")
    place = "s3://bucket/job/output/model.tar.gz"
    assert main(["info", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["algorithm"] == "stack"
    assert main(["export", place]) == 1
    assert "A packed model has no folder to write into. Name a file with --out." in capsys.readouterr().err
    assert main(["export", place, "--out", str(tmp_path / "stack.onnx")]) == 0
    assert (tmp_path / "stack.onnx").stat().st_size > 0
    for command in ("info", "serve"):
        assert main([command, "s3://bucket/other"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("semseg: s3://bucket/other holds neither model_best.params nor model_algo-1.")


@pytest.mark.parametrize(
    "command",
    [
        ["quantize", "s3://bucket/model", "--images=images"],
        ["evaluate", "job", "--images=s3://bucket/images", "--annotations=masks"],
        ["predict", "job", "images", "--out=s3://bucket/out"],
        ["train", "--job=s3://bucket/job"],
        ["browse", "s3://bucket/images", "masks", "--num-classes=2"],
    ],
    ids=" ".join,
)
def test_an_address_in_s3_is_refused_where_only_a_path_will_do(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 1
    assert "is in S3: give a file or folder of this machine, to or from which `aws s3 cp` copies." in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_options_about_masks_need_masks(small_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--suffix=_L"], ["--label-map=map.json"]):
        assert main(["quantize", str(small_dir), f"--images={small_dir}", *options]) == 1
        assert capsys.readouterr().err == (
            "semseg: --label-map and --suffix are about masks, and there are none. Give --annotations too.\n"
        )


@pytest.mark.parametrize("port", ["0", "65536", "\u0661", "8_0", "9" * 5000])
def test_a_port_is_a_number_in_its_range(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "job", "--port", port])
    assert "is not valid: it must be a number from 1 to 65535." in capsys.readouterr().err


def test_an_address_where_no_server_can_listen_is_named_at_once(
    small_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(small_dir), "--port", str(port)]) == 1
        assert capfd.readouterr() == (
            "",
            f"The server cannot listen on 127.0.0.1, port {port}: Address already in use. Give another --host or "
            "--port.\n",
        )
    for host in ("no.such.host.invalid", "a" * 64):
        assert main(["serve", str(small_dir), "--host", host, "--port", str(port)]) == 1
        said = capfd.readouterr().err
        assert said.startswith(f"The server cannot listen on {host}, port {port}: ")
        assert "Errno" not in said
