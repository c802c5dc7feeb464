"""The files in which several worker processes count together, as prometheus_client has them, safe on a full disk.

prometheus_client maps them, and the system kills who writes to a mapped file for which the disk has no room: so the
room is taken before. Each worker has a place, a number, and a file of each kind; who comes after it counts on in these.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from semseg.errors import UserError
from semseg.machine import is_own

FOLDERS = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108 the two that a container can write, be it read-only
"""Where to look for room, in this order."""

FILE_BYTES = 1 << 16
"""Of each file: prometheus_client's first size, in which all that Metrics can count has room."""

_LASTING, _LIVE = ("counter", "histogram"), ("gauge_livesum", "gauge_livemax")
"""Kinds of files, by whether their numbers outlive the worker."""

_PREFIX = "semseg-metrics-"


class SharedCounts:
    """A folder of such files, which is this server's as long as one of its processes lives: they hold its lock."""

    def __init__(self, folder: Path, workers: int) -> None:
        """Make it inside of `folder`, with room for so many workers. Raises OSError when that has too little."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        self._lock = _lock(self.path)
        try:
            for place in range(workers):
                self.prepare(place)
        except OSError:
            self.remove()
            raise

    def prepare(self, place: int) -> None:
        """Take the room for a worker's files, in which its gauges begin anew. Raises OSError when there is none."""
        for kind in _LASTING + _LIVE:
            file = os.open(self._file(kind, place), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(file, 0, FILE_BYTES)
            finally:
                os.close(file)
        self.forget(place)

    def forget(self, place: int) -> None:
        """Empty the gauges of a worker that has ended. Raises OSError."""
        for kind in _LIVE:
            with self._file(kind, place).open("r+b") as file:
                file.write(bytes(8))  # the count of its bytes in use

    def remove(self) -> None:
        """Remove the folder, as far as that is possible."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _file(self, kind: str, place: int) -> Path:
        return self.path / f"{kind}_{place}.db"


def shared_counts(workers: int, folders: Sequence[Path] = FOLDERS) -> SharedCounts:
    """Room for the counts of so many workers, in the first folder that has it.

    Removes what servers that were killed have left there. Raises UserError when no folder has room.
    """
    for folder in folders:
        _remove_abandoned(folder)
    reasons = []
    for folder in folders:
        try:
            return SharedCounts(folder, workers)
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    size = workers * len(_LASTING + _LIVE) * FILE_BYTES
    raise UserError(
        f"{workers} workers need {size:,} bytes in a folder that they share, for /metrics, and find no room: "
        f"{'; '.join(reasons)}.",
        "Make room (docker run --shm-size), or serve with SAGEMAKER_MODEL_SERVER_WORKERS=1.",
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove the folders of servers no process of which lives."""
    for path in folder.glob(f"{_PREFIX}*"):
        if is_own(path):
            with suppress(OSError):  # it is locked, or another server that starts has removed it
                lock = _lock(path)
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until the file descriptor is closed, in child processes too; raises OSError if others have it."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened
