"""Runs `semseg train` in a process of its own, for callers in Python.

A training handles signals, sets the memory's thresholds and starts an engine's threads, for which a caller's process is
not the place.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from semseg.errors import SemsegError, UserError
from semseg.sagemaker.paths import Paths

_LAST_LINES = 20


def run_training(job: str, options: Mapping[str, object]) -> Path:
    """Runs a training in the folder `job`, prints what it prints, and returns the folder.

    options: those of the command line with underscores for hyphens; True stands for an option without a value where
    that is one. When interrupted, it waits until the training has saved its progress. Raises UserError, or SemsegError
    for a defect, with the reason.
    """
    command = [sys.executable, "-m", "semseg", "train", "--job", job]
    for name, value in options.items():
        command += _words(name, value)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    started = time.time()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                last.append(line)
                print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)  # harmless if the terminal has sent it SIGINT too
            process.communicate()
            raise
    if process.returncode:
        raise _error(process.returncode, _reason(Paths(Path(job)).failure, started) or "".join(last))
    return Path(job)


def _words(name: str, value: object) -> list[str]:
    option = f"--{name.strip('_').replace('_', '-')}"
    if name in ("overwrite", "no_checkpoints"):
        return [option] if value else []
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return [f"{option}={text}"]


def _reason(failure: Path, started: float) -> str:
    """Returns what the training wrote into its failure file; nothing if it did not come so far."""
    try:
        return failure.read_text(encoding="utf-8") if failure.stat().st_mtime >= started else ""
    except OSError:
        return ""


def _error(code: int, reason: str) -> SemsegError:
    message = f"The training ended with exit code {code}: {reason.strip()}"
    return UserError(message) if code == UserError.exit_code else SemsegError(message)
