"""What commands that take a model leave behind when a signal ends them: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from serve_process import wait_until

PLACE = "s3://bucket/model.tar.gz"
LISTING = b"<ListBucketResult><Contents><Key>model.tar.gz</Key></Contents></ListBucketResult>"
COMMANDS = {
    "info": ["info", PLACE],
    "export": ["export", PLACE, "--out", "out.onnx"],
    "serve": ["serve", PLACE],
    "predict": ["predict", PLACE, "images", "--out", "out"],
    "evaluate": ["evaluate", PLACE, "--images", "images", "--annotations", "images"],
}


@pytest.fixture(scope="module")
def endless() -> Iterator[str]:
    """The address of a server with the protocol of S3, whose only object comes slowly and never ends."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if "list-type" in self.path:
                self.send_header("Content-Length", str(len(LISTING)))
                self.end_headers()
                self.wfile.write(LISTING)
                return
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
            with suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(bytes(300_000))

        def log_message(self, *_: object) -> None:
            """Keeps stderr quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()
        thread.join(60)


@pytest.fixture
def environ(endless: str, tmp_path: Path) -> dict[str, str]:
    """That of a process that finds this server, and whose temporary folder is `tmp`."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "images").mkdir()
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    return os.environ | credentials | {"AWS_ENDPOINT_URL_S3": endless, "TMPDIR": str(tmp_path / "tmp")}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("info", signal.SIGINT),
        ("info", signal.SIGTERM),
        ("info", signal.SIGHUP),
        ("serve", signal.SIGINT),
        ("serve", signal.SIGHUP),
        ("predict", signal.SIGTERM),
        ("evaluate", signal.SIGHUP),
        ("export", signal.SIGHUP),
    ],
)
def test_a_download_is_broken_off_and_removed(
    command: str, number: signal.Signals, environ: dict[str, str], tmp_path: Path
) -> None:
    if command == "predict":
        (tmp_path / "images/a.png").touch()
    words = [sys.executable, "-m", "semseg", *COMMANDS[command]]
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: any(path.stat().st_size for path in (tmp_path / "tmp").glob("*/model.tar.gz")))
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert said == ""
    assert not list((tmp_path / "tmp").iterdir())


def test_nohup_keeps_a_command_from_ending_with_its_terminal(environ: dict[str, str], tmp_path: Path) -> None:
    words = ["nohup", sys.executable, "-m", "semseg", "info", PLACE]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: any((tmp_path / "tmp").glob("*/model.tar.gz")))
            ignored = re.search("SigIgn:\\s*(\\w+)", Path(f"/proc/{process.pid}/status").read_text())
            assert ignored
            assert int(ignored[1], 16) & 1 << signal.SIGHUP - 1
        finally:
            process.kill()
