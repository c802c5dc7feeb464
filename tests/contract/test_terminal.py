"""`semseg train` at a terminal: a line for each epoch there, the platform's log in a file."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import small_train
from quick_job import QUICK

from semseg.data.shapes import write_shapes


class Terminal:
    """The person's side of a pseudo-terminal of 80 columns, whose other side is `file`."""

    def __init__(self) -> None:
        self._side, self.file = pty.openpty()
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
    command: Sequence[str], to_terminal: bool = True, hold_at: str = ""
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """A process at a terminal, which is killed after two minutes; its stdout is a pipe unless it goes there too."""
    environ = os.environ | {"COLUMNS": "80", small_train.HOLD_AT: hold_at}
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


def test_a_person_sees_a_line_for_each_epoch_and_the_log_is_in_a_file(command: list[str], tmp_path: Path) -> None:
    with running(command) as (process, terminal):
        seen = terminal.lines()
    assert process.returncode == 0
    assert seen[0] == f"The log of this training is {tmp_path}/job/training.log."
    epochs = [line for line in seen if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all(len(line) <= 80 for line in epochs)
    assert any(line.startswith("best model on the 4 whole images of validation: mIOU ") for line in seen)
    assert seen[-1] == f"The model is in {tmp_path}/job/model."
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


def test_a_log_that_is_redirected_stays_whole(command: list[str], tmp_path: Path) -> None:
    with running(command, to_terminal=False) as (process, terminal):
        log, _ = process.communicate()
        seen = terminal.lines()
    assert process.returncode == 0
    assert log.startswith("Docker entrypoint called with argument(s): train\n")
    assert log.count("#quality_metric. host: algo-1, epoch: 1, validation mIOU: ") == 1
    assert [line.split("  ")[0] for line in seen if line.startswith("epoch ")] == ["epoch 1/2", "epoch 2/2"]
    assert not (tmp_path / "job/training.log").exists()
