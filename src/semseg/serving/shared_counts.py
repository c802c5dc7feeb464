"""Files in which several worker processes count together through prometheus_client, allocated in full beforehand.

prometheus_client maps these files, and the system kills a process that writes to a mapped file on a full disk. Each
worker has a slot, a number, with a file of each kind; the worker that replaces it continues these files.
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

FOLDERS = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108 the two that even a read-only container can write
"""The folders to try, in this order."""

FILE_BYTES = 1 << 16
"""The size of each file: prometheus_client's initial size, which is enough for everything in Metrics."""

_LASTING, _LIVE = ("counter", "histogram"), ("gauge_livesum", "gauge_livemax")
"""The kinds of files: those whose numbers outlive the worker, and those whose numbers end with it."""

_PREFIX = "semseg-metrics-"


class SharedCounts:
    """A folder of such files. It is locked by this server's processes as long as one of them lives."""

    def __init__(self, folder: Path, workers: int) -> None:
        """Make the folder inside `folder`, for a number of workers. Raises OSError when there is too little space."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        self._lock = _lock(self.path)
        try:
            for slot in range(workers):
                self.prepare(slot)
        except OSError:
            self.remove()
            raise

    def prepare(self, slot: int) -> None:
        """Allocate a worker's files, and empty its gauges. Raises OSError when there is no space."""
        for kind in _LASTING + _LIVE:
            file = os.open(self._file(kind, slot), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(file, 0, FILE_BYTES)
            finally:
                os.close(file)
        self.forget(slot)

    def forget(self, slot: int) -> None:
        """Empty the gauges of a worker that has ended. Raises OSError."""
        for kind in _LIVE:
            with self._file(kind, slot).open("r+b") as file:
                file.write(bytes(8))  # the header, which is the number of bytes in use

    def remove(self) -> None:
        """Remove the folder as far as possible."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _file(self, kind: str, slot: int) -> Path:
        return self.path / f"{kind}_{slot}.db"


def shared_counts(workers: int, folders: Sequence[Path] = FOLDERS) -> SharedCounts:
    """The files for a number of workers, in the first folder with enough space.

    Removes files there that killed servers left behind. Raises UserError when no folder has enough space.
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
        f"{workers} workers need {size:,} bytes in a shared folder, for /metrics, and no folder has them: "
        f"{'; '.join(reasons)}.",
        "Free some space (docker run --shm-size), or serve with SAGEMAKER_MODEL_SERVER_WORKERS=1.",
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove the folders of servers that have no process left."""
    for path in folder.glob(f"{_PREFIX}*"):
        if is_own(path):
            with suppress(OSError):  # it is locked, or another starting server has removed it
                lock = _lock(path)
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until this process and its children close the returned file descriptor; raises OSError if it is
    locked already."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened
