"""Files of a data set, local, in S3 or in memory: limited in size, and named in every error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from semseg.errors import DataError, ImageError, SemsegError, UserError, one_line

MAX_FILE_BYTES = 512_000_000
"""More than an image of `images.MAX_PIXELS` needs in any format, uncompressed, at 8 bytes a pixel."""

AHEAD_BYTES = 256_000_000
"""About the number of bytes of files that are read ahead of decoding."""


class File(Protocol):
    """A file on this machine, in S3, or in memory."""

    @property
    def name(self) -> str:
        """Its name for error messages, on one line."""
        ...

    def read(self) -> bytes:
        """All its bytes, at most `MAX_FILE_BYTES`. Raises DataError with its name."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine.

    given: what the user calls it, for error messages; if empty, that is ``channel/file``.
    """

    path: Path
    given: str = ""

    @property
    def name(self) -> str:
        """Its name on one line."""
        return one_line(self.given) if self.given else printable(self.path)

    def read(self) -> bytes:
        """All its bytes. Raises DataError."""
        return read_file(self.path, name=self.name)


@dataclass(frozen=True)
class LoadedFile:
    """A file whose bytes, or the error of reading them, are in memory."""

    name: str
    content: bytes | DataError

    @property
    def size(self) -> int:
        """The number of its bytes; 0 if they could not be read."""
        return 0 if isinstance(self.content, DataError) else len(self.content)

    def read(self) -> bytes:
        """All its bytes. Raises DataError if they could not be read."""
        if isinstance(self.content, DataError):
            raise self.content
        return self.content


@dataclass(frozen=True)
class ConvertedFile:
    """A file in another format than that of the bytes that are read.

    convert: makes these of its own bytes; may raise ImageError.
    """

    file: File
    convert: Callable[[bytes], bytes]

    @property
    def name(self) -> str:
        """The name of the file itself."""
        return self.file.name

    def read(self) -> bytes:
        """The converted bytes. Raises DataError, with its name."""
        with naming(self):
            return self.convert(self.file.read())


def load(file: File) -> LoadedFile:
    """Read a file now. If that fails, the error is raised later, by the `read` of the result."""
    try:
        return LoadedFile(file.name, file.read())
    except DataError as error:
        return LoadedFile(file.name, error)


@contextmanager
def naming(file: File) -> Iterator[None]:
    """Turn an ImageError into a DataError that names the file; add the name as a note to unexpected errors."""
    try:
        yield
    except ImageError as error:
        raise DataError(f"{file.name}: {error.message}", error.hint) from error
    except SemsegError:
        raise
    except BaseException as error:
        error.add_note(f"while reading {file.name}")
        raise


def described(file: File, error: UserError) -> str:
    """An error with the name of its file, which one about the data has already."""
    return str(error) if isinstance(error, DataError) else f"{file.name}: {error}"


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES, name: str = "") -> bytes:
    """The bytes of a file. Raises DataError if it cannot be read or is larger than `max_bytes`.

    name: the file's in errors; if empty, as ``channel/file``.
    """
    name = name or printable(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= max_bytes:
                return file.read(size)
    except OSError as error:
        raise _unreadable(path, name, error) from error
    raise DataError(f"{name} has {size} bytes, more than the {max_bytes} allowed.")


def counts_as_file(path: Path) -> bool:
    """Whether this is a file, or a link that leads nowhere: to read that is an error, so it is not left out unnoticed.

    What else there is, such as a FIFO, is none: to read that would wait for its writer. Raises OSError.
    """
    return path.is_file() or leads_nowhere(path)


def leads_nowhere(path: Path) -> bool:
    """Whether this is a link to what does not exist."""
    try:
        return path.is_symlink() and not path.exists()
    except OSError:  # what there is, is not known
        return False


def _unreadable(path: Path, name: str, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        target = one_line(os.path.realpath(path))
        return DataError(
            f"{name} is a link to {target}, which does not exist.", "Restore that file, or remove the link."
        )
    return DataError(f"{name} cannot be read: {error.strerror}.")


def printable(path: Path) -> str:
    """A path for error messages: ``channel/file``, on one line."""
    return one_line("/".join(filter(None, (path.parent.name, path.name))))
