"""What the command `train` starts: the job that the platform laid out, or one in a folder of the user's."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from semseg.artifact.model_dir import files_of_model
from semseg.data.local_job import lay_out
from semseg.data.s3 import ObjectStore
from semseg.errors import ChannelError, one_line
from semseg.sagemaker.job import run_job
from semseg.sagemaker.log_lines import LOGGER, set_up_logging
from semseg.sagemaker.paths import Paths
from semseg.training.job_folder import Command, JobFolder, job_folder


def start(command: Command, environ: Mapping[str, str]) -> int:
    """Run a training and return its exit code: of the channels that are given, or else the job in SAGEMAKER_BASE_DIR.

    Raises ChannelError for options that need channels; JobFolderError where the training would replace another one, and
    UserError where its folder cannot be used: neither leaves a trace there but the file of the lock.
    """
    print("Docker entrypoint called with argument(s): train", flush=True)
    set_up_logging()
    return _train_locally(command) if command.channels else _train_laid_out(command, Paths.from_environment(environ))


def _train_laid_out(command: Command, paths: Paths) -> int:
    places = {"job": command.job, "checkpoints": command.checkpoints, "no-checkpoints": not command.keep}
    for option, given in (places | {"overwrite": command.overwrite}).items():
        if given:
            raise ChannelError(
                f"--{option} is given, but no channel.",
                "Give --train too; SAGEMAKER_BASE_DIR names a job that is laid out.",
            )

    def job(stop: threading.Event) -> None:
        if command.words:
            raise ChannelError(
                f"{command.words[0].partition('=')[0]} is given, but no channel.",
                "Give --train too.",
            )
        _train(paths, stop)

    return run_job(job, paths)


def _train_locally(command: Command) -> int:
    """Have a folder for the training; when it is told to stop, print the command that resumes it."""
    with job_folder(command) as folder:
        LOGGER.info("The folder of the job is %s.", one_line(str(folder.paths.base.resolve())))
        ended = threading.Event()

        def job(stop: threading.Event) -> None:
            with ObjectStore(stop=stop.is_set) as store:
                lay_out(folder.paths, command.channels, command.hyperparameters, store, folder.checkpoints)
            _train(folder.paths, stop, folder)
            if not stop.is_set():
                folder.finish()
                ended.set()

        code = run_job(job, folder.paths)
        if code == 0 and not ended.is_set():
            _print_bytes(_resuming(command, folder))
    return code


def _train(paths: Paths, stop: threading.Event, folder: JobFolder | None = None) -> None:
    from semseg.machine import keep_memory_flat
    from semseg.training.recipe import LARGE, train  # here: while it is imported, SIGTERM is heeded already

    keep_memory_flat(LARGE, kept=LARGE)
    train(paths, stop, folder)


def _resuming(command: Command, folder: JobFolder) -> str:
    """How the training goes on that was told to stop: a sentence, and a line for the shell."""
    words = [*_program(), "--job", _argument(folder.paths.base)]
    if command.checkpoints:
        words += ["--checkpoints", _argument(command.checkpoints)]
    if not command.keep:
        words += ["--no-checkpoints"]
    words += command.words
    if folder.has_progress():
        return f"This goes on from the last checkpoint:\n{shlex.join(words)}"
    if folder.anew or files_of_model(folder.paths.model):
        words += ["--overwrite"]
    return f"There is no checkpoint of this training. This begins it again:\n{shlex.join(words)}"


def _argument(path: Path) -> str:
    """A path that is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _print_bytes(text: str) -> None:
    """Print what holds paths as they are, which need not be text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
    sys.stdout.buffer.flush()


def _program() -> list[str]:
    """The words with which this shell runs the command `train`."""
    called = Path(sys.argv[0])
    if called.name not in ("semseg", "train"):
        return [sys.executable, "-m", "semseg", "train"]
    program = called.name if shutil.which(called.name) == str(called) else str(called)
    return [program, "train"] if called.name == "semseg" else [program]
