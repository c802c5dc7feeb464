"""Chooses the folder of a training outside SageMaker, and prevents overwriting earlier results by accident.

A training counts as unfinished while its folder has checkpoints; they are removed when it finishes.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.model_dir import files_of_model
from semseg.data.arrangement import AS_CHANNELS, Arrangement
from semseg.data.local_job import is_foreign, is_laid_out_for, places_of
from semseg.errors import JobFolderError, UserError, one_line, os_reason
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.checkpoints import checkpoint_files, remove
from semseg.training.folder_lock import locked

DEFAULT = "job"
_DEFAULT_NAME = re.compile(rf"{DEFAULT}(?:-([2-9]|[1-9]\d{{1,8}}))?")


@dataclass(frozen=True)
class TrainCommand:
    """The options of the command `train`.

    channels, hyperparameters: their values by name, as given. job: the folder; None for the next default one.
    checkpoints: the folder for them; None for one in the job's. keep_checkpoints: whether to save any.
    overwrite: start a new training even if the folder holds one. arguments: the channels and hyperparameters as command
    line arguments. arrangement: how the folders of the channels differ from channels.
    """

    channels: Mapping[str, str]
    hyperparameters: Mapping[str, str]
    job: Path | None = None
    checkpoints: Path | None = None
    keep_checkpoints: bool = True
    overwrite: bool = False
    arguments: tuple[str, ...] = ()
    arrangement: Arrangement = AS_CHANNELS


@dataclass(frozen=True)
class JobFolder:
    """A locked folder that is free for this process's training.

    checkpoints: the folder for them; None if none are kept. overwrite: start a new training; earlier files stay until
    they can be replaced. earlier_checkpoints: those of an earlier training, with their modification times.
    places: where the data of each channel is.
    """

    paths: Paths
    checkpoints: Path | None
    overwrite: bool
    earlier_checkpoints: Mapping[Path, int]
    places: Mapping[str, str]

    @property
    def mismatch_hint(self) -> str:
        """What to suggest if the checkpoints belong to another training."""
        folder = shlex.quote(one_line(str(self.paths.base)))
        return f"give --job {folder} --overwrite to start a new training in their place, or another --job"

    def has_progress(self) -> bool:
        """Whether there is a checkpoint from which this training would resume."""
        found = _checkpoints_in(self.checkpoints)
        return bool(found) and not (self.overwrite and found == self.earlier_checkpoints)

    def drop_replaced(self) -> None:
        """Removes the checkpoints of an earlier training whose model this one has replaced."""
        replaced = [path for path, written in self.earlier_checkpoints.items() if _modified(path) == written]
        if not self.overwrite or not replaced:
            return
        own = replaced[0].parent
        # If the folder is not locked yet, another training may have its checkpoints there by now.
        with (
            suppress(JobFolderError),
            nullcontext() if _is_same_folder(self.checkpoints, own) else locked(own, "--checkpoints"),
        ):
            _remove(replaced)

    def finish(self) -> None:
        """Removes the checkpoints of this training, which has finished."""
        self.drop_replaced()
        if found := _checkpoints_in(self.checkpoints):
            LOGGER.info("The training is finished: its checkpoints in %s are removed.", self.checkpoints)
            _remove(found)


@contextmanager
def job_folder(command: TrainCommand) -> Iterator[JobFolder]:
    """Chooses and locks the folder of a training and that of its checkpoints.

    Without --job it is the default folder with the same unfinished training, or else the next unused one of `job`,
    `job-2`, ...; with --overwrite it is `job`.
    Raises JobFolderError if the folder is in use, or holds a model or an unfinished training without --overwrite;
    UserError if it cannot be used.
    """
    with ExitStack() as locks:
        if command.job or command.overwrite:
            folder = _acquire(command.job or Path(DEFAULT), command, locks)
        else:
            folder = _acquire_default(command, locks)
        if folder.checkpoints and not _is_same_folder(folder.checkpoints, folder.paths.base):
            locks.enter_context(locked(folder.checkpoints, "--checkpoints"))
        yield folder


def _acquire_default(command: TrainCommand, locks: ExitStack) -> JobFolder:
    matches = (_DEFAULT_NAME.fullmatch(path.name) for path in Path().iterdir())
    numbers = sorted((int(match[1] or 1) for match in matches if match), reverse=True)
    newest = numbers[0] if numbers else 0
    first = newest if newest and _is_free(_default(newest)) else newest + 1
    same = [path for path in map(_default, numbers) if _is_unfinished(path, command)]
    candidates = itertools.chain(same, map(_default, itertools.count(first)))
    while True:
        with suppress(JobFolderError):  # another process has locked it
            return _acquire(next(candidates), command, locks)


def _default(number: int) -> Path:
    return Path(DEFAULT if number == 1 else f"{DEFAULT}-{number}")


def _is_free(path: Path) -> bool:
    """Whether a folder has no model, no checkpoints and no job laid out by someone else."""
    paths = Paths(path)
    held = files_of_model(paths.model) or _checkpoints_in(_own_checkpoints(paths)) or _checkpoints_in(paths.checkpoints)
    return path.is_dir() and not held and not is_foreign(paths)


def _is_unfinished(path: Path, command: TrainCommand) -> bool:
    """Whether a folder holds the unfinished training that the command describes."""
    paths = Paths(path)
    return bool(_checkpoints_in(_own_checkpoints(paths))) and is_laid_out_for(
        paths, command.channels, command.hyperparameters, command.arrangement
    )


def _acquire(path: Path, command: TrainCommand, locks: ExitStack) -> JobFolder:
    """Locks a folder. Raises JobFolderError if the training would replace another one."""
    paths = Paths(path)
    with ExitStack() as lock:
        lock.enter_context(locked(path, "--job"))
        own = _own_checkpoints(paths)
        checkpoints = (
            (command.checkpoints or (own if _checkpoints_in(own) else paths.checkpoints))
            if command.keep_checkpoints
            else None
        )
        if command.overwrite:
            _require_own(checkpoints, own)
        else:
            _require_free(paths, checkpoints, own)
        locks.push(lock.pop_all())
    return JobFolder(paths, checkpoints, command.overwrite, _checkpoints_in(own), places_of(command.channels))


def _require_own(checkpoints: Path | None, own: Path) -> None:
    """Raises JobFolderError if checkpoints of another folder's training would be overwritten."""
    if _checkpoints_in(checkpoints) and not _is_same_folder(checkpoints, own):
        raise JobFolderError(
            f"{one_line(str(checkpoints))} holds the checkpoints of another training.",
            "Name an empty folder with --checkpoints.",
        )
    if found := _checkpoints_in(own):
        LOGGER.warning("An unfinished training is replaced: its newest checkpoint is %s.", next(iter(found)))


def _require_free(paths: Paths, checkpoints: Path | None, own: Path) -> None:
    """Raises JobFolderError unless the folder is empty, or holds the unfinished training of these checkpoints."""
    model = files_of_model(paths.model)
    folder = one_line(str(paths.base))
    held = model or _checkpoints_in(own) or _checkpoints_in(paths.checkpoints)
    if not held or (_checkpoints_in(checkpoints) and _is_same_folder(checkpoints, own)):
        return
    if model:
        raise JobFolderError(
            f"{folder} holds a trained model ({', '.join(model)} in {folder}/model).",
            "Give --overwrite to train a new one, which replaces it after the first validation, or another --job.",
        )
    for directory in (own, paths.checkpoints):
        if _checkpoints_in(directory):
            raise JobFolderError(
                f"{folder} holds an unfinished training, with its checkpoints in {one_line(str(directory))}.",
                "Leave out --checkpoints and --no-checkpoints to resume it, give --overwrite to start a new training "
                "in its place, or another --job.",
            )


def _own_checkpoints(paths: Paths) -> Path:
    """Returns where the last training started in a folder keeps its checkpoints, according to its configuration."""
    try:
        return read_checkpoint_directory(paths) or paths.checkpoints
    except UserError:
        return paths.checkpoints


def _checkpoints_in(directory: Path | None) -> dict[Path, int]:
    """Returns the checkpoints in a directory, newest first, with their modification times in nanoseconds."""
    files = checkpoint_files(directory) if directory else []
    return {path: written for path in files if (written := _modified(path)) is not None}


def _modified(path: Path) -> int | None:
    """Returns a file's modification time in nanoseconds; None if a running training has removed it meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _remove(checkpoints: Iterable[Path]) -> None:
    try:
        remove(checkpoints)
    except OSError as error:
        LOGGER.warning("Obsolete checkpoints cannot be removed: %s", os_reason(error))


def _is_same_folder(one: Path | None, other: Path) -> bool:
    return one is not None and one.resolve() == other.resolve()
