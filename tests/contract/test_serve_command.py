"""`semseg serve MODEL`: a model of any form, on an address that the command names."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import small_server
from serve_process import Server, serving, start, wait_until, workers
from small_model import known, packed, write_small_model

from semseg.cli import main

SMALL = small_server.__file__


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's folder, and beside it the model's archive."""
    model = write_small_model(tmp_path / "job/model")
    (tmp_path / "model.tar.gz").write_bytes(packed(model))
    return tmp_path / "job"


def listens(address: str, server: Server) -> bool:
    """Whether a server listens on an address of this machine's loopback interface, which has all of 127.0.0.0/8."""
    with socket.socket() as client:
        return client.connect_ex((address, server.port)) == 0


@pytest.fixture(params=["archive", "archive in S3", "job in S3"])
def place(request: pytest.FixtureRequest, job: Path) -> str:
    """Where a model is that has to be unpacked or downloaded."""
    archive = job.with_name("model.tar.gz")
    if request.param == "archive":
        return str(archive)
    bucket = request.getfixturevalue("bucket")
    bucket.put_object(Key="output/model.tar.gz", Body=archive.read_bytes())
    bucket.put_object(Key="job/model/model_best.params", Body=(job / "model/model_best.params").read_bytes())
    return "s3://bucket/job" if request.param == "job in S3" else "s3://bucket/output/model.tar.gz"


def test_a_packed_or_distant_model_is_served_to_this_machine_and_kept_until_the_server_ends(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    with serving(tmp_path / "absent", tmp_path, SMALL, place, TMPDIR=str(tmp_path / "tmp")) as server:
        assert listens("127.0.0.1", server)
        assert not listens("127.0.0.2", server)
        (fetched,) = (tmp_path / "tmp").rglob("model_best.params")
        before = workers(server)
        os.kill(before[0], signal.SIGTERM)  # a worker that ends well leaves the model to the next
        wait_until(lambda: workers(server) not in ([], before) and server.ping() == 200)
        before = workers(server)
        server.process.send_signal(signal.SIGHUP)  # for gunicorn: start anew
        wait_until(lambda: not set(workers(server)) & set(before) and server.ping() == 200)
        assert fetched.exists()
    assert not list((tmp_path / "tmp").iterdir())


def test_what_is_wrong_with_a_packed_model_is_said_of_the_archive(job: Path, tmp_path: Path) -> None:
    (job / "model/model_best.params").write_bytes(b"no parameters")
    archive = job.with_name("model.tar.gz")
    archive.write_bytes(packed(job / "model"))
    assert start(tmp_path / "absent", tmp_path, SMALL, str(archive)).process.wait(timeout=60) == 3
    assert f"The model cannot be loaded: {archive}/model_best.params " in (tmp_path / "stderr").read_text()


def test_a_model_that_is_given_can_be_tried_on_a_page(job: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "absent", tmp_path, SMALL, str(job)) as server:
        status, headers, body = server.ask("GET", "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<title>Try the model</title>" in body
        assert f"Try the model in a browser: http://127.0.0.1:{server.port}/\n" in (tmp_path / "stdout").read_text()
    with serving(tmp_path / "absent", tmp_path, SMALL, str(job), SEMSEG_PAGE="off") as server:
        assert server.ask("GET", "/")[0] == 404


def test_a_jobs_folder_is_served_on_the_address_that_is_given(job: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "absent", tmp_path, SMALL, str(job), "--host", "0.0.0.0") as server:
        assert listens("127.0.0.2", server)
        assert json.loads(server.ask("GET", "/info")[2])["num_classes"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["absent"], "semseg: There is no model at absent. Give the folder of a model or of a job, or a model.tar.gz."),
        (["damaged.tar.gz"], "semseg: damaged.tar.gz is truncated: "),
        (["empty"], "semseg: empty holds neither model_best.params nor model_algo-1. Give the unpacked model.tar.gz"),
    ],
)
def test_what_is_no_model_is_named(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.tar.gz").write_bytes(b"\x1f\x8b\x08no archive")
    (tmp_path / "empty").mkdir()
    assert main(["serve", *options]) == 1
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "99999999999"])
def test_a_port_is_a_number(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", f"--port={port}"])
    assert end.value.code == 1
    assert "it must be a number from 1 to 65535" in capsys.readouterr().err


def test_info_describes_a_model_of_any_form(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "model/classes.json").write_text('{"classes": ["road", "car", "sky"], "colors": {"1": "#2ca02c"}}')
    with known(*small_server.DECLARED):
        assert main(["info", str(job)]) == 0
        text = capsys.readouterr().out
        assert main(["info", str(job.with_name("model.tar.gz")), "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
    assert text.splitlines()[0] == "network    fcn on resnet-50"
    assert text.splitlines()[-2] == "class        1 car #2ca02c"
    (job / "model/classes.json").write_text('{"classes": ["road", "class 1", "class 2"], "colors": {"1": "#2ca02c"}}')
    with known(*small_server.DECLARED):
        assert main(["info", str(job)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["class        1 #2ca02c", "class        2"]
    assert content["classes"][1] == {"id": 1, "name": "class 1", "color": None}
    assert content["files"]["model_best.params"] == (job / "model/model_best.params").stat().st_size
    assert content["sha256"] in text
    assert (content["base_size"], content["scale"]) == (None, "none")


def test_a_packed_model_is_not_written_into(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = str(job.with_name("model.tar.gz"))
    assert main(["export", archive]) == 1
    assert "A packed model has no folder to write into. Name a file with --out." in capsys.readouterr().err
    assert main(["quantize", archive, "--images", str(job)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"semseg: {archive} is packed, and int8 is written beside the other files of a model.")
    assert said.endswith(f"Unpack it into a folder, and give that: mkdir model && tar -xf {archive} -C model.\n")
