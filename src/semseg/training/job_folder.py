"""The folder of a training outside SageMaker: which one it is, and that nothing that was trained in it is lost.

A training is unfinished for as long as it has checkpoints: they go when it is finished.
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
from semseg.data.local_job import is_foreign, is_laid_out_for, places_of
from semseg.errors import JobFolderError, UserError, one_line
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.checkpoints import checkpoint_files, remove
from semseg.training.folder_lock import locked

DEFAULT = "job"
_COUNTED = re.compile(rf"{DEFAULT}(?:-([2-9]|[1-9]\d{{1,8}}))?")


@dataclass(frozen=True)
class Command:
    """What a training was told.

    channels, hyperparameters: by name, as they were given; words: the same as a shell gives them. job: the folder, None
    for the next default one. checkpoints: where they go, None for a folder of the job's; for nowhere unless `keep`.
    overwrite: begin a new training though the folder holds one.
    """

    channels: Mapping[str, str]
    hyperparameters: Mapping[str, str]
    job: Path | None = None
    checkpoints: Path | None = None
    keep: bool = True
    overwrite: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobFolder:
    """A folder that this process holds, and which is free for its training.

    checkpoints: where they go, None for nowhere. anew: a new training begins; what is there of an earlier one stays
    until there is something to put in its place. found: the checkpoints of before, and when they were written.
    places: where the data of each channel lies.
    """

    paths: Paths
    checkpoints: Path | None
    anew: bool
    found: Mapping[Path, int]
    places: Mapping[str, str]

    @property
    def otherwise(self) -> str:
        """What to do should the checkpoints be of another training."""
        folder = shlex.quote(one_line(str(self.paths.base)))
        return f"give --job {folder} --overwrite to begin a new one in their place, or another --job"

    def has_progress(self) -> bool:
        """Whether there is a checkpoint of this training, from which it would go on."""
        found = _found(self.checkpoints)
        return bool(found) and not (self.anew and found == self.found)

    def drop_replaced(self) -> None:
        """Remove the checkpoints of a training whose model this one has replaced."""
        replaced = [path for path, written in self.found.items() if _written(path) == written]
        if not self.anew or not replaced:
            return
        own = replaced[0].parent
        # What is not held may be where another folder's training has its own by now.
        with suppress(JobFolderError), nullcontext() if _same(self.checkpoints, own) else locked(own, "--checkpoints"):
            _remove(replaced)

    def finish(self) -> None:
        """Remove the checkpoints of the training, which is at its end."""
        self.drop_replaced()
        if found := _found(self.checkpoints):
            LOGGER.info("The training is finished: its checkpoints in %s are removed.", self.checkpoints)
            _remove(found)


@contextmanager
def job_folder(command: Command) -> Iterator[JobFolder]:
    """Have the folder of a training, and that of its checkpoints, to oneself.

    Without a job given it is the default folder in which the same training is unfinished, or else the next one, counted
    up from `job`; to overwrite, it is `job`.
    Raises JobFolderError where the folder is in use, or holds a model or an unfinished training and is not to be
    overwritten; UserError where it cannot be used.
    """
    with ExitStack() as locks:
        if command.job or command.overwrite:
            folder = _take(command.job or Path(DEFAULT), command, locks)
        else:
            folder = _take_default(command, locks)
        if folder.checkpoints and not _same(folder.checkpoints, folder.paths.base):
            locks.enter_context(locked(folder.checkpoints, "--checkpoints"))
        yield folder


def _take_default(command: Command, locks: ExitStack) -> JobFolder:
    matches = (_COUNTED.fullmatch(path.name) for path in Path().iterdir())
    numbers = sorted((int(match[1] or 1) for match in matches if match), reverse=True)
    newest = numbers[0] if numbers else 0
    first = newest if newest and _is_free(_default(newest)) else newest + 1
    same = [path for path in map(_default, numbers) if _is_unfinished(path, command)]
    candidates = itertools.chain(same, map(_default, itertools.count(first)))
    while True:
        with suppress(JobFolderError):  # another process has taken it
            return _take(next(candidates), command, locks)


def _default(number: int) -> Path:
    return Path(DEFAULT if number == 1 else f"{DEFAULT}-{number}")


def _is_free(path: Path) -> bool:
    """Whether nothing that was trained is in a folder, nor a job that somebody else laid out."""
    paths = Paths(path)
    held = files_of_model(paths.model) or _found(_own_checkpoints(paths)) or _found(paths.checkpoints)
    return path.is_dir() and not held and not is_foreign(paths)


def _is_unfinished(path: Path, command: Command) -> bool:
    """Whether the training that the command begins was begun in a folder, and can go on there."""
    paths = Paths(path)
    return bool(_found(_own_checkpoints(paths))) and is_laid_out_for(paths, command.channels, command.hyperparameters)


def _take(path: Path, command: Command, locks: ExitStack) -> JobFolder:
    """Lock a folder. Raises JobFolderError where the training would replace another one."""
    paths = Paths(path)
    with ExitStack() as lock:
        lock.enter_context(locked(path, "--job"))
        own = _own_checkpoints(paths)
        checkpoints = (command.checkpoints or (own if _found(own) else paths.checkpoints)) if command.keep else None
        if command.overwrite:
            _require_own(checkpoints, own)
        else:
            _require_free(paths, checkpoints, own)
        locks.push(lock.pop_all())
    return JobFolder(paths, checkpoints, command.overwrite, _found(own), places_of(command.channels))


def _require_own(checkpoints: Path | None, own: Path) -> None:
    """Raise JobFolderError where checkpoints would be overwritten that are not those of the folder's training."""
    if _found(checkpoints) and not _same(checkpoints, own):
        raise JobFolderError(
            f"{one_line(str(checkpoints))} holds the checkpoints of another training.",
            "Name an empty folder with --checkpoints.",
        )
    if found := _found(own):
        LOGGER.warning("An unfinished training is replaced: its newest checkpoint is %s.", next(iter(found)))


def _require_free(paths: Paths, checkpoints: Path | None, own: Path) -> None:
    """Raise JobFolderError unless there is nothing, or the unfinished training of these checkpoints."""
    model = files_of_model(paths.model)
    folder = one_line(str(paths.base))
    held = model or _found(own) or _found(paths.checkpoints)
    if not held or (_found(checkpoints) and _same(checkpoints, own)):
        return
    if model:
        raise JobFolderError(
            f"{folder} holds a trained model ({', '.join(model)} in {folder}/model).",
            "Give --overwrite to train a new one, which takes its place after the first validation, or another --job.",
        )
    for directory in (own, paths.checkpoints):
        if _found(directory):
            raise JobFolderError(
                f"{folder} holds an unfinished training, with its checkpoints in {one_line(str(directory))}.",
                "Leave --checkpoints and --no-checkpoints out to go on with it, give --overwrite to begin a new one in "
                "its place, or another --job.",
            )


def _own_checkpoints(paths: Paths) -> Path:
    """Where the training that was last begun in a folder has its checkpoints, as far as the folder knows."""
    try:
        return read_checkpoint_directory(paths) or paths.checkpoints
    except UserError:
        return paths.checkpoints


def _found(directory: Path | None) -> dict[Path, int]:
    """The checkpoints in a directory, newest first, and when they were written, in nanoseconds."""
    files = checkpoint_files(directory) if directory else []
    return {path: written for path in files if (written := _written(path)) is not None}


def _written(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None if it is not there, as a training under way removes some."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _remove(checkpoints: Iterable[Path]) -> None:
    try:
        remove(checkpoints)
    except OSError as error:
        LOGGER.warning("Checkpoints that are of no more use cannot be removed: %s", error)


def _same(one: Path | None, other: Path) -> bool:
    return one is not None and one.resolve() == other.resolve()
