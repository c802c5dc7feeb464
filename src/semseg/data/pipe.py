"""Pipe mode: the pairs of a RecordIO stream from a FIFO (R18, R35, R41; container-contract.md sections 1.7, 1.8)."""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from semseg.codecs.kinds import JPEG, PNG, Kind, kind_of
from semseg.codecs.recordio import read_records
from semseg.data.files import MAX_FILE_BYTES, LoadedFile
from semseg.data.pairs import Pair
from semseg.errors import DataError

Result = TypeVar("Result")

TIMEOUT = 600.0
"""Seconds without a byte: before the first one the platform lists what may be millions of objects."""

_SLICE = 0.1
"""Seconds after which whoever waits looks whether it still should."""

_PIPE_BYTES = 1 << 20
"""What a FIFO holds at most without privileges, 16 times the default: the writer waits less."""

_ATTRIBUTES = "AttributeNames must be [image, annotation]"
_IMAGE = (JPEG, PNG)
_ANNOTATION = (PNG,)


@dataclass(frozen=True)
class Pipe:
    """A channel in Pipe mode: a row of FIFOs ``<path>_0``, ``<path>_1``, ..., each read once, in this order.

    stop: whether the job was told to end; once it was, that must not change.
    timeout: seconds without a byte, or without the FIFO, that are an error.
    """

    path: Path
    stop: Callable[[], bool]
    timeout: float = TIMEOUT

    def stream(self, number: int) -> str:
        """What errors call one of the FIFOs: its name."""
        return f"{self.path.name}_{number}"

    def pairs(self, number: int, cancelled: Callable[[], bool]) -> Generator[Pair, None, None]:
        """The pairs of one FIFO, which may not be there yet; a file in its place is read as well.

        The row ends without an error, if need be early, when `cancelled` or `stop` says so: the platform may end the
        stream together with the job, within a record. Closing the generator closes the FIFO, which tells its writer.
        Raises DataError, naming the FIFO and, where there is one, the record, for whatever else is no whole stream
        of images and annotations in turn.
        """
        name = self.stream(number)
        fifo = _Fifo(self.path.with_name(name), lambda: cancelled() or self.stop(), self.timeout)
        try:
            with closing(fifo):
                yield from _pairs(read_records(fifo.read, name, MAX_FILE_BYTES), name)
        except _GivenUpError:
            return
        except DataError:
            if not self.stop():
                raise


class _GivenUpError(Exception):
    """Nobody waits for the data any more."""


class _Fifo:
    """The reading end. It is never blocked in a system call for longer than `_SLICE`."""

    def __init__(self, path: Path, given_up: Callable[[], bool], timeout: float) -> None:
        self._path = path
        self._given_up = given_up
        self._timeout = timeout
        self._poll = select.poll()
        self._descriptor: int | None = None
        self._offset = 0

    def read(self, size: int) -> bytes:
        """1 to `size` bytes, b"" when the writer has left. Raises DataError and _GivenUpError."""
        try:
            descriptor = self._open() if self._descriptor is None else self._descriptor
            data = self._wait_for(
                lambda: self._try_to_read(descriptor, size),
                f"No data came from {self._path.name} for {self._timeout:g} s, after {self._offset} bytes.",
                "Whatever writes the stream hangs, or has not begun.",
            )
        except OSError as error:
            raise DataError(f"{self._path.name} cannot be read: {error.strerror}.") from error
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Let go of the FIFO."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _open(self) -> int:
        self._descriptor = self._wait_for(
            self._try_to_open,
            f"{self._path.name} was not created within {self._timeout:g} s.",
            "The platform creates it for a channel whose input mode is Pipe; elsewhere `semseg pipe` does.",
        )
        with suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll.register(self._descriptor, select.POLLIN)
        return self._descriptor

    def _try_to_open(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            time.sleep(_SLICE)
            return None

    def _try_to_read(self, descriptor: int, size: int) -> bytes | None:
        """What is there. poll() is silent until there has been a writer, where read() would tell of the end."""
        if self._poll.poll(1000 * _SLICE):
            with suppress(BlockingIOError):  # a writer left and another came between the two calls
                return os.read(descriptor, size)
        return None

    def _wait_for(self, attempt: Callable[[], Result | None], message: str, hint: str) -> Result:
        """What an attempt gives at last: the first one is made in any case, and all take a slice at most."""
        deadline = time.monotonic() + self._timeout
        while not self._given_up():
            if (result := attempt()) is not None:
                return result
            if time.monotonic() >= deadline:
                raise DataError(message, hint)
        raise _GivenUpError


def _pairs(records: Iterator[bytes], name: str) -> Iterator[Pair]:
    number = 0
    for image in records:
        picture = _checked(f"record {number} of {name}", image, _IMAGE)
        annotation = next(records, None)
        if annotation is None:
            raise DataError(f"{name} ends after record {number}, an image without its annotation; {_ATTRIBUTES}")
        yield Pair(picture, _checked(f"record {number + 1} of {name}", annotation, _ANNOTATION))
        number += 2
    if not number:
        raise DataError(
            f"{name} ended without a record.", "Check the S3 URI of the channel, and that the manifest has lines."
        )


def _checked(name: str, data: bytes, kinds: tuple[Kind, ...]) -> LoadedFile:
    """The record as a file, its first bytes being those of one of the kinds."""
    kind = kind_of(data)
    if kind not in kinds:
        got = kind.name if kind else f"{len(data)} bytes of something else" if data else "an empty record"
        expected = " or ".join(one.name for one in kinds)
        raise DataError(f"{name}: expected {expected}, got {got}; {_ATTRIBUTES}")
    return LoadedFile(name, data)
