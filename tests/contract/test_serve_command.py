"""`semseg serve MODEL`: a model of any form, on an address that the command names."""

from __future__ import annotations

import json
import os
import signal
import socket
import tarfile
from pathlib import Path

import pytest
import small_server
from serve_process import Server, serving, wait_until, workers
from small_model import known, write_small_model

from semseg.cli import main

SMALL = small_server.__file__


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's folder, and beside it the model's archive."""
    model = write_small_model(tmp_path / "job/model")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(model / "model_best.params", "model_best.params")
    return tmp_path / "job"


def listens(address: str, server: Server) -> bool:
    """Whether a server listens on an address of this machine's loopback interface, which has all of 127.0.0.0/8."""
    with socket.socket() as client:
        return client.connect_ex((address, server.port)) == 0


def test_an_archive_is_served_to_this_machine_and_kept_until_the_server_ends(job: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    archive = str(job.with_name("model.tar.gz"))
    with serving(tmp_path / "absent", tmp_path, SMALL, archive, TMPDIR=str(tmp_path / "tmp")) as server:
        assert listens("127.0.0.1", server)
        assert not listens("127.0.0.2", server)
        (unpacked,) = (tmp_path / "tmp").glob("semseg-*/model_best.params")
        (first,) = workers(server)
        os.kill(first, signal.SIGTERM)  # a worker that ends well leaves the model to the next
        wait_until(lambda: workers(server) not in ([], [first]) and server.ping() == 200)
        assert unpacked.exists()
    assert not list((tmp_path / "tmp").glob("semseg-*"))


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
    assert "model.tar.gz is packed" in capsys.readouterr().err
