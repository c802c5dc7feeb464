"""A lock that gives one process exclusive use of a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from semseg.errors import JobFolderError, UserError, one_line
from semseg.sagemaker.log_lines import LOGGER

LOCK = ".semseg.lock"
"""The lock file, which is never removed; it holds the id of the last process that locked the folder."""

_LONGEST_NUMBER = 20


@contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Locks a folder, which is created if necessary; the kernel releases the lock if the process dies.

    option: the command line option that names the folder, for messages. On a file system without locks, a warning is
    logged instead. Raises JobFolderError if another process holds the lock, UserError if the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(
            f"The folder {one_line(str(folder)):.300} cannot be used: {error.strerror}.", f"Name another with {option}."
        ) from error
    try:
        _lock(descriptor, folder, option)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, option: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, _LONGEST_NUMBER, 0)
        process = f" (process {holder.decode()})" if holder.isdigit() else ""
        raise JobFolderError(
            f"{one_line(str(folder))} is in use by another training{process}.",
            f"Wait until it ends, or name another folder with {option}.",
        ) from error
    except OSError as error:
        LOGGER.warning(
            "%s cannot be locked (%s): make sure that no other training uses it.", one_line(str(folder)), error.strerror
        )
        return
    with suppress(OSError):  # the id is only for the message above
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
