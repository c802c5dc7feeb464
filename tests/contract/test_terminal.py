"""What a person at a terminal sees of a training, of errors and of a server."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import small_server
import small_train
from quick_job import QUICK
from serve_process import Client, encode, wait_until
from small_model import packed, write_small_model

from semseg.data.shapes import write_shapes


class Terminal:
    """The person's side of a pseudo-terminal of 80 columns, whose other side is `file`."""

    def __init__(self) -> None:
        self._side, self.file = pty.openpty()
        self._open = True
        self._text = ""

    def read(self, words: str = "") -> str:
        """Returns all that was written until these words came, or else until no process has the terminal any more."""
        while not words or words not in self._text:
            try:
                self._text += os.read(self._side, 65536).decode()
            except OSError:  # the end, on Linux
                break
        return self._text

    def lines(self) -> list[str]:
        """Returns all lines as a person sees them at the end, without bars that were wiped away."""
        lines = (line.rpartition("\r")[2].rstrip() for line in self.read().replace("\r\n", "\n").split("\n"))
        return [line for line in lines if line]

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._side)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    write_shapes(tmp_path / "shapes", train=8, validation=4, size=(48, 40), seed=1)
    words = [sys.executable, small_train.__file__, "train", "--job", str(tmp_path / "job")]
    for name in ("train", "train_annotation", "validation", "validation_annotation"):
        words += [f"--{name.replace('_', '-')}", str(tmp_path / "shapes" / name)]
    for name, value in QUICK.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words


@contextmanager
def running(
    command: Sequence[str], to_terminal: bool = True, hold_at: str = "", **more: str
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """A process at a terminal, which is killed after two minutes; its stdout is a pipe unless it goes there too."""
    environ = os.environ | {"COLUMNS": "80", small_train.HOLD_AT: hold_at} | more
    with closing(Terminal()) as terminal:
        stdout = terminal.file if to_terminal else subprocess.PIPE
        with subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=terminal.file, text=True
        ) as process:
            os.close(terminal.file)
            watch = threading.Timer(120, process.kill)
            watch.start()
            try:
                yield process, terminal
            finally:
                watch.cancel()
                process.kill()


def unwrapped(lines: Sequence[str]) -> list[str]:
    """Lines of which none goes on, indented, in the next."""
    whole: list[str] = []
    for line in lines:
        if line.startswith("  ") and whole:
            whole[-1] += f" {line.strip()}"
        else:
            whole.append(line)
    return whole


def test_a_person_sees_a_line_for_each_epoch_and_the_log_is_in_a_file(command: list[str], tmp_path: Path) -> None:
    with running(command) as (process, terminal):
        seen = terminal.lines()
    assert process.returncode == 0
    assert unwrapped(seen)[0] == f"The log of this training is {tmp_path}/job/training.log."
    epochs = [line for line in seen if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all(len(line) <= 80 for line in epochs)
    assert any(line.startswith("best model, 4 whole images of validation: mIOU ") for line in seen)
    assert unwrapped(seen)[-2:] == [
        f"The report is {tmp_path}/job/output/data/report.html.",
        f"The model is in {tmp_path}/job/model.",
    ]
    assert not [line for line in seen if "#" in line or "INFO" in line or "WARNING" in line]
    log = (tmp_path / "job/training.log").read_text()
    assert log.startswith("Docker entrypoint called with argument(s): train\n")
    assert log.count("#quality_metric. host: algo-1, epoch: 1, validation mIOU: ") == 1
    assert '"totaltime"' in log


def test_ctrl_c_ends_with_the_command_that_resumes(command: list[str]) -> None:
    with running(command, hold_at="epoch 1/2") as (process, terminal):
        terminal.read("epoch 1/2")
        process.send_signal(signal.SIGINT)
        seen = terminal.lines()
    assert process.returncode == 0
    assert "Traceback" not in "".join(seen)
    before, resuming = seen[-2:]
    assert before == "Resume from the last checkpoint with:"
    options = command[command.index("--job") :]
    assert sorted(shlex.split(resuming)[-len(options) :]) == sorted(options)


def test_a_training_whose_terminal_is_closed_saves_its_progress(command: list[str], tmp_path: Path) -> None:
    with running(command, hold_at="epoch 1/2") as (process, terminal):
        terminal.read("epoch 1/2")
        terminal.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 0
    log = (tmp_path / "job/training.log").read_text()
    assert "ERROR" not in log
    assert "#quality_metric. host: algo-1, epoch: 0, validation mIOU: " in log
    assert "#quality_metric. host: algo-1, epoch: 1, validation mIOU: " not in log
    with running(command) as (process, terminal):
        seen = terminal.lines()
    assert process.returncode == 0
    assert any(line.startswith("1 epoch had ended before, best ") for line in seen)


def test_a_log_that_is_redirected_stays_whole(command: list[str], tmp_path: Path) -> None:
    with running(command, to_terminal=False) as (process, terminal):
        log, _ = process.communicate()
        seen = terminal.lines()
    assert process.returncode == 0
    assert log.startswith("Docker entrypoint called with argument(s): train\n")
    assert log.count("#quality_metric. host: algo-1, epoch: 1, validation mIOU: ") == 1
    assert [line.split("  ")[0] for line in seen if line.startswith("epoch ")] == ["epoch 1/2", "epoch 2/2"]
    assert not (tmp_path / "job/training.log").exists()


def words(text: str) -> str:
    """A text with single blanks between its words, however it is broken into lines."""
    return " ".join(text.split())


def test_an_error_breaks_between_words(command: list[str], tmp_path: Path) -> None:
    """It names a file whose name is wider than the terminal."""
    name = f"{'a-file-with-a-long-name-' * 4}.png"
    mask = next((tmp_path / "shapes/train_annotation").iterdir())
    mask.rename(mask.with_name(name))
    with running(command) as (process, terminal):
        seen = terminal.lines()
    assert process.returncode == 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    error = done.stdout[done.stdout.index("ClientError: ") :]
    assert max(map(len, error.splitlines())) > 80
    assert words(error) in words("\n".join(seen))
    assert [line for line in seen if len(line) > 80 and len(line.split()) > 1] == []
    assert f"train_annotation/{name}" in words("\n".join(seen))


def test_what_is_wrong_with_a_command_line_breaks_between_words() -> None:
    wrong = [sys.executable, "-m", "semseg", "train", "--num-classes", "4", "--train", "absent"]
    with running(wrong) as (process, terminal):
        seen = terminal.lines()
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=120)
    assert process.returncode == done.returncode == 1
    assert max(map(len, done.stderr.splitlines())) > 80
    assert max(map(len, seen)) <= 80
    assert words("\n".join(seen)) == words(done.stderr)


def test_an_evaluation_is_a_table_that_fits(command: list[str], tmp_path: Path) -> None:
    """Without what the built-in algorithm warns of."""
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    shapes = tmp_path / "shapes"
    images = ["--images", str(shapes / "validation"), "--annotations", str(shapes / "validation_annotation")]
    with running([*command[:2], "evaluate", str(tmp_path / "job"), *images]) as (process, terminal):
        seen = terminal.lines()
    assert process.returncode == 0
    assert seen[0] == 'semseg: The annotations are read by the default label map, {"scale": 1}.'
    assert seen[1].split()[:2] == ["class", "IoU"]
    assert seen[-2].split()[-2:] == ["boundary", "ms"]
    assert max(map(len, seen)) <= 80


@pytest.fixture
def served(tmp_path: Path) -> tuple[list[str], int]:
    """The command that serves a small model, and the port."""
    write_small_model(tmp_path / "job/model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, small_server.__file__, str(tmp_path / "job"), "--port", str(port)], port


def test_a_server_says_where_it_is_how_to_stop_it_and_a_line_for_each_request(
    served: tuple[list[str], int], tmp_path: Path
) -> None:
    command, port = served
    client, image = Client(port), encode(np.zeros((20, 30, 3), np.uint8))
    with running(command) as (process, terminal):
        terminal.read("...model loaded.")
        wait_until(lambda: client.ping() == 200)
        assert client.invoke(image, Accept="image/png")[0] == 200
        terminal.read("30 x 20")
        assert client.invoke(b"no image")[0] == 400
        terminal.read("400")
        process.terminate()
        seen = terminal.lines()
    assert process.returncode == 0
    assert seen[:2] == [f"Try the model in a browser: http://127.0.0.1:{port}/", "Ctrl-C stops the server."]
    loaded = seen.index("...model loaded.")
    assert len(seen) == loaded + 3, seen[loaded:]
    good, bad = seen[loaded + 1 :]
    assert re.fullmatch(r"200  image/png  30 x 20  \d+ ms", good)
    assert re.fullmatch(r"400  \d+ ms", bad)
    assert not [line for line in seen if "[INFO]" in line]


def test_a_server_ends_with_its_terminal(served: tuple[list[str], int], tmp_path: Path) -> None:
    """Which sends SIGHUP; gunicorn would start new workers, and keep the port."""
    command, port = served
    (tmp_path / "tmp").mkdir()
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(packed(tmp_path / "job/model"))
    command[2] = str(archive)
    with running(command, TMPDIR=str(tmp_path / "tmp")) as (process, terminal):
        terminal.read("...model loaded.")
        assert list((tmp_path / "tmp").iterdir())
        process.send_signal(signal.SIGHUP)
        terminal.read()  # until no process has the terminal any more
    assert process.returncode == 0
    assert Client(port).ping() is None
    assert not list((tmp_path / "tmp").iterdir())


def test_a_container_s_server_has_its_log_at_a_terminal_too(served: tuple[list[str], int], tmp_path: Path) -> None:
    """SageMaker's local mode gives containers a terminal."""
    command, port = served
    client, program = Client(port), [*command[:2], "--port", str(port)]
    with running(program, SAGEMAKER_BASE_DIR=str(tmp_path / "job")) as (process, terminal):
        terminal.read("...model loaded.")
        wait_until(lambda: client.ping() == 200)
        assert client.invoke(encode(np.zeros((20, 30, 3), np.uint8)))[0] == 200
        terminal.read("#metrics {")
        process.terminate()
        seen = terminal.read()
    assert "[INFO] Listening at" in seen
    assert "Ctrl-C" not in seen
