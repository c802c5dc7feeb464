"""Runs a training job: signals, the failure file and the exit code."""

from __future__ import annotations

import errno
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from semseg.errors import DiskFullError, SemsegError, Stopped, UserError, os_reason
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths

FAILURE_CHARACTERS = 1023  # the platform shows 1,024

_PROCESS_DIED = (
    "AlgorithmError: The training process died without reporting a reason: it was killed, perhaps for lack of memory, "
    "or a library aborted. The end of its log may show more."
)
"""The content of the failure file while a job runs, in case the process dies and cannot write it."""


def stop_on_signals() -> threading.Event:
    """Returns an event that SIGTERM, SIGINT and SIGHUP set; a second SIGINT (Ctrl-C) ends the process at once.

    A terminal that is closed sends SIGHUP, unless it is ignored, as by `nohup`.
    """
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)
    return stop


def run_job(job: Callable[[threading.Event], None], paths: Paths) -> int:
    """Runs a job and returns its exit code: 0 done or stopped, 1 an error of the user's, 2 any other error.

    SIGTERM, SIGINT or SIGHUP sets the job's event; the job saves its progress and returns within a step, or raises
    Stopped. An error's reason is logged and written to the failure file. The file also exists while the job runs, in
    case the process dies, and is removed when the job succeeds.
    """
    stop = stop_on_signals()
    _remove_failure(paths.failure)
    with suppress(OSError):  # if the job fails, this is logged then
        _write_failure(paths.failure, _PROCESS_DIED)
    try:
        job(stop)
    except Stopped as stopped:
        LOGGER.warning(str(stopped) or "Stopped before the first training step: there is no model to save.")
    except Exception as error:
        code, *texts = _explain(error)
        reason, details = map(_encodable, texts)
        LOGGER.error("%s%s", reason, f"\n{details}" if details else "")
        try:
            _write_failure(paths.failure, f"{reason}\n\n{details}" if details else reason)
        except OSError as unwritable:
            LOGGER.error("The failure file cannot be written: %s", os_reason(unwritable))
        return code
    _remove_failure(paths.failure)
    return 0


def _explain(error: Exception) -> tuple[int, str, str]:
    """Returns the exit code, the reason in a sentence and, unless the user is to blame, the traceback."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = DiskFullError(error.filename or "the job's folder, or in the temporary one")
    if isinstance(error, PermissionError) and error.filename:
        error = UserError(f"{os_reason(error)}.", "Give the user that runs this command access to it.")
    if isinstance(error, SemsegError):
        if error.exit_code == 1:
            return 1, f"ClientError: {error}", ""
        return error.exit_code, f"AlgorithmError: {error}", traceback.format_exc()
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
    return 2, f"AlgorithmError: {_described(error)}{notes}", traceback.format_exc()


def _described(error: Exception) -> str:
    """Returns an error's class and text; if the text is a traceback, as with MXNet's errors, its last line."""
    name, text = type(error).__name__, str(error)
    if text.startswith("Traceback (most recent call last)"):
        text = text.rstrip().rpartition("\n")[2].removeprefix(f"{name}: ")
    return f"{name}: {text}"


def _shortened(text: str) -> str:
    """Shortens a text to the failure file's limit: keeps the start, with the reason, and the end, often the hint."""
    if len(text) <= FAILURE_CHARACTERS:
        return text
    gap = "\n[...]\n"
    end = (FAILURE_CHARACTERS - len(gap)) // 2
    return text[: FAILURE_CHARACTERS - len(gap) - end] + gap + text[-end:]


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates escaped: file names and JSON may contain them, but UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_failure(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_shortened(text), encoding="utf-8")


def _remove_failure(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
