"""Atomic writing of files, their SHA-256, temporary folders, and what readers of files that are not trusted share."""

from __future__ import annotations

import atexit
import errno
import hashlib
import mmap
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg.errors import DiskFullError, FormatError, SemsegError, one_line

LONGEST_NAME = 255
"""Bytes of the longest name of a file."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` at the end, or is removed on an error.

    Raises DiskFullError, naming the folder, when the disk is full, and OSError for what is neither a file nor absent: a
    device such as /dev/stdout would be replaced too.
    """
    temporary = temporary or _partial(path)
    with _beside(path, temporary):
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)


def require_writable(path: Path) -> None:
    """Raise the OSError or DiskFullError of `replacing` if it cannot write a file: before work that would be lost."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = _partial(path)
    with _beside(path, temporary):
        temporary.open("wb").close()


@contextmanager
def _beside(path: Path, temporary: Path) -> Iterator[None]:
    """Within the block a temporary file may be written, which is removed at the end; errors name `path` instead."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "Is a device or a pipe, not a file", str(path))
    try:
        with naming_full_disk(path.parent):
            try:
                yield
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        if str(error.filename) == str(temporary):
            error.filename = str(path)  # the file that the user knows
        raise


def _partial(path: Path) -> Path:
    """The temporary path of a file, hidden beside it; in place of a name that is too long for this, its hash."""
    name = os.fsencode(path.name)
    fits = len(name) + len("..partial") <= LONGEST_NAME
    return path.with_name(f".{path.name if fits else hashlib.sha256(name).hexdigest()}.partial")


@contextmanager
def naming_full_disk(place: Path) -> Iterator[None]:
    """Turn the system's error of a full disk, raised in the block, into DiskFullError, which names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(place) from error
        raise


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder, by default in the system's folder for them, which is removed at the end.

    A signal that ends the process may come at any moment, also while the folder is made or removed: it is gone at the
    latest when the process exits. Only the process that made it removes it: one that it has forked leaves the block too
    when it ends. Raises OSError if the folder cannot be made.
    """
    owner = os.getpid()
    folder = (parent or Path(tempfile.gettempdir())) / f"semseg-{secrets.token_hex(8)}"

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove()
        atexit.unregister(remove)


def flush_to_disk(path: Path) -> None:
    """Return once the file or directory is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_file(path: Path) -> None:
    """Raise FormatError unless this is a regular file: reading a FIFO would wait for its writer."""
    if not path.is_file():
        raise FormatError("is not there" if not path.exists() else "is not a file")


def map_file(path: Path) -> memoryview:
    """Return the bytes of a file, which are read when they are used. Raises FormatError if it is not a regular file."""
    require_file(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # mmap refuses an empty file
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@contextmanager
def naming_file(path: Path, error: type[SemsegError], hint: str = "") -> Iterator[None]:
    """Turn a FormatError in the block, or an OSError from reading, into an `error` that names the file.

    hint: how to mend a FormatError.
    """
    try:
        yield
    except FormatError as fault:
        raise error(f"{one_line(str(path))} {fault}.", hint) from None
    except OSError as fault:
        raise error(f"{one_line(str(path))} cannot be read: {fault.strerror or fault}.") from fault
