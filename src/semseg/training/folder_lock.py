"""A folder that one training has for itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from semseg.errors import JobFolderError, UserError, one_line
from semseg.sagemaker.log_lines import LOGGER

LOCK = ".semseg.lock"
"""The file that is locked; it stays, with the number of the last process that had the folder."""

_LONGEST_NUMBER = 20


@contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Have the folder, made if need be, to oneself until the end; the kernel ends it when the process dies.

    option: that which names the folder, for messages. Where the file system knows no locks, a warning says so.
    Raises JobFolderError where another process has it, UserError where nothing can be written there.
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
            f"Wait for its end, or name another folder with {option}.",
        ) from error
    except OSError as error:
        LOGGER.warning(
            "%s cannot be locked (%s): see to it that no other training uses it.", one_line(str(folder)), error.strerror
        )
        return
    with suppress(OSError):  # the number is for people alone
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
