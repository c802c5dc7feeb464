"""Implements the command `train`: runs the job that the platform laid out, or one in a local folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path

from semseg.artifact.model_dir import files_of_model
from semseg.data.local_job import lay_out
from semseg.data.s3 import ObjectStore
from semseg.data.user_paths import with_user_paths
from semseg.errors import ChannelError, one_line
from semseg.reporting.terminal import TerminalLog
from semseg.sagemaker.job import run_job
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER, set_up_logging
from semseg.sagemaker.paths import Paths
from semseg.training.job_folder import JobFolder, TrainCommand, job_folder

LOG = "training.log"
"""The log of a job at a terminal, in the job's folder."""


def start(command: TrainCommand, environ: Mapping[str, str]) -> int:
    """Runs a training on the given channels, or else the job in SAGEMAKER_BASE_DIR, and returns its exit code.

    Raises ChannelError for options that need channels, JobFolderError if the training would replace another one, and
    UserError if its folder cannot be used; in both cases the folder is unchanged, except for the lock file.
    """
    return _train_locally(command) if command.channels else _train_platform(command, Paths.from_environment(environ))


def _begin_log() -> None:
    print("Docker entrypoint called with argument(s): train", flush=True)
    set_up_logging()


def _train_platform(command: TrainCommand, paths: Paths) -> int:
    _begin_log()
    options = {
        "job": command.job,
        "checkpoints": command.checkpoints,
        "no-checkpoints": not command.keep_checkpoints,
        "overwrite": command.overwrite,
    }
    for option, value in options.items():
        if value:
            raise ChannelError(
                f"--{option} is given, but no channel.",
                "Give --train too; without it, the job in SAGEMAKER_BASE_DIR runs.",
            )

    def job(stop: threading.Event) -> None:
        if command.arguments:  # raised inside the job, so that output/failure reports it
            raise ChannelError(
                f"{command.arguments[0].partition('=')[0]} is given, but no channel.",
                "Give --train too; without it, the job in SAGEMAKER_BASE_DIR runs.",
            )
        _train(paths, stop)

    return run_job(job, paths)


def _train_locally(command: TrainCommand) -> int:
    """Trains in a local job folder; if stopped, prints the command that resumes the training."""
    terminal = TerminalLog(sys.stderr) if sys.stderr.isatty() and sys.stdout.isatty() else None
    if terminal:
        LOGGER.handlers = [terminal]
    else:
        _begin_log()
    with job_folder(command) as folder, _log_file(folder.paths.base / LOG, terminal) if terminal else nullcontext():
        LOGGER.info("The folder of the job is %s.", one_line(str(folder.paths.base.resolve())))
        finished = threading.Event()

        def job(stop: threading.Event) -> None:
            with with_user_paths(folder.paths, command.channels):
                with ObjectStore(stop=stop.is_set) as store:
                    lay_out(
                        folder.paths,
                        command.channels,
                        command.hyperparameters,
                        store,
                        folder.checkpoints,
                        command.arrangement,
                    )
                _train(folder.paths, stop, folder)
            if not stop.is_set():
                folder.finish()
                finished.set()

        code = run_job(job, folder.paths)
        instructions = _resume_instructions(command, folder) if code == 0 and not finished.is_set() else ""
        if finished.is_set():
            if terminal:
                _name_report(folder.paths.output_data)
            LOGGER.info("The model is in %s.", one_line(str(folder.paths.model)), extra=FOR_PEOPLE)
    if instructions:
        with suppress(OSError):  # of a terminal that has been closed
            _print_bytes(instructions)
    return code


@contextmanager
def _log_file(path: Path, terminal: TerminalLog) -> Iterator[None]:
    """Within the block, what goes to stdout is added to a file; the terminal shows what people want to know of it."""
    with path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as file, redirect_stdout(file):
        _begin_log()
        LOGGER.addHandler(terminal)
        LOGGER.info("The log of this training is %s.", one_line(str(path)), extra=FOR_PEOPLE)
        yield


def _name_report(folder: Path) -> None:
    from semseg.reporting.html.render import FILE  # imported late, as it takes a while

    if (folder / FILE).exists():
        LOGGER.info("The report is %s.", one_line(str(folder / FILE)), extra=FOR_PEOPLE)


def _train(paths: Paths, stop: threading.Event, folder: JobFolder | None = None) -> None:
    from semseg.machine import keep_memory_flat
    from semseg.training.recipe import MMAP_THRESHOLD, train  # imported late, when SIGTERM is handled

    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)
    train(paths, stop, folder)


def _resume_instructions(command: TrainCommand, folder: JobFolder) -> str:
    """Returns how to resume a training that was stopped: a sentence and a shell command."""
    words = [*_program(), "--job", _path_argument(folder.paths.base)]
    if command.checkpoints:
        words += ["--checkpoints", _path_argument(command.checkpoints)]
    if not command.keep_checkpoints:
        words += ["--no-checkpoints"]
    words += command.arguments
    if folder.has_progress():
        return f"Resume from the last checkpoint with:\n{shlex.join(words)}"
    if folder.overwrite or files_of_model(folder.paths.model):
        words += ["--overwrite"]
    return f"This training has not saved a checkpoint yet. Start it again with:\n{shlex.join(words)}"


def _path_argument(path: Path) -> str:
    """Returns a path in a form that is not mistaken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _print_bytes(text: str) -> None:
    """Prints a text with file names that may not be valid UTF-8."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
    sys.stdout.buffer.flush()


def _program() -> list[str]:
    """Returns the start of the command line that runs `train` from this shell."""
    called = Path(sys.argv[0])
    if called.name not in ("semseg", "train"):
        return [sys.executable, "-m", "semseg", "train"]
    program = called.name if shutil.which(called.name) == str(called) else str(called)
    return [program, "train"] if called.name == "semseg" else [program]
