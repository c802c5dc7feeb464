"""A directory of checkpoints: training resumes from the newest undamaged one.

A checkpoint is one file in MXNet's parameter format, `checkpoint-<epoch>-<iteration>.params`: the learner's state, the
file of the best parameters, the run's progress, its configuration, and a SHA-256 of all these. This project's reader of
that format validates everything and maps the file instead of copying it. Because a checkpoint is a single file, the
platform never uploads half of one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semseg.codecs.params import read_params, write_params
from semseg.errors import ArtifactError, HyperparameterError, UserError, count_of, one_line
from semseg.files import replacing
from semseg.sagemaker.hyperparameters import rules
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.training.progress import Progress
from semseg.types import Arrays, UInt8

KEPT = 3
"""The number of checkpoints kept, in case the newest is damaged. Those known to be damaged do not count."""

_NAME = re.compile(r"checkpoint-(\d{1,9})-(\d{1,9})\.params")
_UNFINISHED = ".sagemaker-ignore"  # the platform does not upload files with this suffix
_LEARNER, _PROGRESS, _CONFIGURATION, _BEST, _DIGEST = "learner/", "progress", "configuration", "best", "sha256"
_MAX_TEXT = 1 << 26  # bytes of a JSON text

LOCATION_PREFIX = "the place of "
"""Prefix of the configuration entries for data locations; checkpoints of earlier versions lack these entries."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from a file.

    state: the learner's, as views of the memory-mapped file `path`. best: the content of model_best.params; empty if
    there was none yet.
    """

    path: Path
    progress: Progress
    state: Arrays
    best: memoryview

    def write_best(self, path: Path) -> None:
        """Writes model_best.params with its content at the time of the checkpoint. Raises OSError."""
        path.write_bytes(self.best)


class Checkpoints:
    """The checkpoints of one job in a directory, which is created if necessary.

    configuration: the job's settings, as text by name. mismatch_hint: what the error suggests if the checkpoints belong
    to a job with another configuration. overwrite: ignore existing checkpoints; remove them when the first is saved.
    Raises UserError if the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        configuration: Mapping[str, str],
        mismatch_hint: str = "give an empty checkpoint location to start a new training",
        overwrite: bool = False,
    ) -> None:
        self._directory = directory
        self._configuration = dict(configuration)
        self._mismatch_hint = mismatch_hint
        self._overwrite = overwrite
        self._damaged: set[Path] = set()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"checkpoint{_UNFINISHED}").touch()  # fail now, not at the first checkpoint
            for leftover in directory.glob(f"checkpoint*{_UNFINISHED}"):
                leftover.unlink()
        except OSError as error:
            raise UserError(
                f"Checkpoints cannot be kept in {one_line(str(directory))}: {error.strerror}.",
                "Set LocalPath in the job's CheckpointConfig to a writable directory with free space.",
            ) from error

    def newest(self) -> Checkpoint | None:
        """Returns the newest undamaged checkpoint, or None; logs a warning for each damaged one.

        Raises HyperparameterError, which lists the differences, if its configuration was another one.
        """
        for path in () if self._overwrite else checkpoint_files(self._directory):
            try:
                checkpoint, configuration = _read(path)
            except ArtifactError as error:
                LOGGER.warning("The checkpoint is skipped: %s", error.message)
                self._damaged.add(path)
                continue
            self._require_same(configuration, path)
            done = checkpoint.progress
            epochs, iterations = count_of(done.epoch, "epoch"), count_of(done.iteration, "iteration")
            LOGGER.info("Training resumes from %s, after %s and %s.", path, epochs, iterations, extra=FOR_PEOPLE)
            return checkpoint
        return None

    def save(self, progress: Progress, state: Arrays, best: Path) -> None:
        """Writes a checkpoint atomically, and removes all but the newest KEPT undamaged ones.

        best: the file of the best parameters, which exists once an epoch has ended. Raises DiskFullError.
        """
        arrays = {_LEARNER + name: array for name, array in state.items()}
        if progress.ended:
            arrays[_BEST] = np.memmap(best, np.uint8, "r")
        arrays[_PROGRESS] = _encoded(progress.to_json())
        arrays[_CONFIGURATION] = _encoded(json.dumps(self._configuration))
        arrays[_DIGEST] = _digest(arrays)
        path = self._directory / f"checkpoint-{progress.epoch:04}-{progress.iteration:06}.params"
        with replacing(path, path.with_name(path.name + _UNFINISHED)) as temporary:
            write_params(temporary, arrays)
        self._damaged.discard(path)
        LOGGER.info("Checkpoint saved to %s", path)
        if self._overwrite:
            remove(other for other in checkpoint_files(self._directory) if other != path)
            self._overwrite = False
        self._prune()

    def _prune(self) -> None:
        undamaged_first = sorted(checkpoint_files(self._directory), key=self._damaged.__contains__)
        for path in undamaged_first[KEPT:]:
            uploading, uploaded = (
                path.with_name(f"{path.name}.sagemaker-{word}") for word in ("uploading", "uploaded")
            )
            if uploaded.exists() or not uploading.exists():  # not while the platform is uploading it
                path.unlink(missing_ok=True)

    def _require_same(self, stored: Mapping[str, str], path: Path) -> None:
        current = self._configuration
        may_differ = {rule.name for rule in rules() if rule.may_differ}
        for name in sorted(may_differ & stored.keys() & current.keys()):
            if stored[name] != current[name]:
                LOGGER.info("%s was %s before the checkpoint, now it is %s.", name, stored[name], current[name])
        compared = (stored.keys() | current.keys()) - may_differ
        compared -= {name for name in current.keys() - stored.keys() if name.startswith(LOCATION_PREFIX)}
        if "step" not in (stored.get("lr_scheduler"), current.get("lr_scheduler")):
            compared.discard("lr_scheduler_step")  # earlier versions stored it although nothing used it
        differing = [
            f"{name} was {stored.get(name, 'not set')}, now it is {current.get(name, 'not set')}"
            for name in sorted(compared)
            if stored.get(name) != current.get(name)
        ]
        if differing:
            raise HyperparameterError(
                f"The checkpoint {path} belongs to another training: {'; '.join(differing)}.",
                f"Restore these values to resume it, or {self._mismatch_hint}.",
            )


def checkpoint_files(directory: Path) -> list[Path]:
    """Returns the checkpoint files in a directory, newest first; ignores others, such as the platform's markers."""
    if not directory.is_dir():
        return []
    names = [match for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    names.sort(key=lambda match: (int(match[1]), int(match[2])), reverse=True)
    return [directory / match[0] for match in names]


def remove(checkpoints: Iterable[Path]) -> None:
    """Removes checkpoints, given newest first, from the oldest on: a process killed meanwhile leaves the newest."""
    for path in reversed(list(checkpoints)):
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Checkpoint, dict[str, str]]:
    """Returns a checkpoint and its configuration. Raises ArtifactError if it is damaged."""
    arrays = read_params(path)
    digest = arrays.pop(_DIGEST, None)
    if digest is None or not np.array_equal(digest, _digest(arrays)):
        raise ArtifactError(f"{path} is damaged: its content does not match its SHA-256.")
    try:
        progress = Progress.from_json(_decoded(arrays[_PROGRESS]))
        configuration = {str(name): str(value) for name, value in json.loads(_decoded(arrays[_CONFIGURATION])).items()}
    except (KeyError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a checkpoint: {error!r:.200}.") from error
    state = {name.removeprefix(_LEARNER): array for name, array in arrays.items() if name.startswith(_LEARNER)}
    return Checkpoint(path, progress, state, arrays.get(_BEST, _encoded("")).data), configuration


def _digest(arrays: Arrays) -> UInt8:
    """The SHA-256 of names, shapes, dtypes and values: uint8 (32,)."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _encoded(text: str) -> UInt8:
    return np.frombuffer(text.encode(), np.uint8)


def _decoded(array: UInt8) -> str:
    if array.nbytes > _MAX_TEXT:
        raise ValueError(f"a text of {array.nbytes} bytes is too long")
    return array.tobytes().decode()
