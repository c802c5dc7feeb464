"""Pipe mode: reads pairs from a RecordIO stream in a FIFO.

SageMaker creates one FIFO per epoch, ``<channel>_0``, ``<channel>_1``, ...; image and annotation records alternate.
"""

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
"""Seconds to wait for data: before the first byte, SageMaker may have to list millions of objects."""

_SLICE = 0.1
"""Seconds between two checks for cancellation while waiting."""

_PIPE_BYTES = 1 << 20
"""The largest buffer of a FIFO without privileges, 16 times the default, so that the writer waits less."""

_ATTRIBUTES = "AttributeNames must be [image, annotation]"
_IMAGE = (JPEG, PNG)
_ANNOTATION = (PNG,)


@dataclass(frozen=True)
class Pipe:
    """A channel in Pipe mode: a series of FIFOs ``<path>_0``, ``<path>_1``, ..., each read once, in this order.

    stop: whether the job must end; once true, it must remain true.
    timeout: seconds without data, or without the FIFO, after which an error is raised.
    """

    path: Path
    stop: Callable[[], bool]
    timeout: float = TIMEOUT

    def stream(self, number: int) -> str:
        """The name of a FIFO, for errors."""
        return f"{self.path.name}_{number}"

    def pairs(self, number: int, cancelled: Callable[[], bool]) -> Generator[Pair, None, None]:
        """The pairs of one FIFO, which need not exist yet; a regular file of that name is read as well.

        Ends early, without an error, once `cancelled` or `stop` returns true: SageMaker may end the stream with the
        job, even within a record. Closing the generator closes the FIFO, so that its writer notices.
        Raises DataError, which names the FIFO and, if there is one, the record, if the stream is incomplete or is not
        one of alternating images and annotations.
        """
        name = self.stream(number)
        fifo = _Fifo(self.path.with_name(name), lambda: cancelled() or self.stop(), self.timeout)
        try:
            with closing(fifo):
                yield from _pairs(read_records(fifo.read, name, MAX_FILE_BYTES), name)
        except _CancelledError:
            return
        except DataError:
            if not self.stop():
                raise


class _CancelledError(Exception):
    """The data is no longer needed."""


class _Fifo:
    """The reading end of a FIFO. No system call blocks for longer than `_SLICE`."""

    def __init__(self, path: Path, cancelled: Callable[[], bool], timeout: float) -> None:
        self._path = path
        self._cancelled = cancelled
        self._timeout = timeout
        self._poll = select.poll()
        self._descriptor: int | None = None
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Read 1 to `size` bytes, or b"" when the writer has left. Raises DataError and _CancelledError."""
        try:
            descriptor = self._open() if self._descriptor is None else self._descriptor
            data = self._wait_for(
                lambda: self._try_to_read(descriptor, size),
                f"No data came from {self._path.name} for {self._timeout:g} s, after {self._offset} bytes.",
                "The process that writes the stream hangs or has not started.",
            )
        except OSError as error:
            raise DataError(f"{self._path.name} cannot be read: {error.strerror}.") from error
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Close the FIFO."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _open(self) -> int:
        self._descriptor = self._wait_for(
            self._try_to_open,
            f"{self._path.name} was not created within {self._timeout:g} s.",
            "SageMaker creates it for a channel whose input mode is Pipe; elsewhere `semseg pipe` does.",
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
        """Read available data. poll() waits for the first writer, whereas read() would report the end of the file."""
        if self._poll.poll(1000 * _SLICE):
            with suppress(BlockingIOError):  # a writer left and another came between the two calls
                return os.read(descriptor, size)
        return None

    def _wait_for(self, attempt: Callable[[], Result | None], message: str, hint: str) -> Result:
        """Call `attempt`, at least once, until it returns a result; a call takes at most `_SLICE`."""
        deadline = time.monotonic() + self._timeout
        while not self._cancelled():
            if (result := attempt()) is not None:
                return result
            if time.monotonic() >= deadline:
                raise DataError(message, hint)
        raise _CancelledError


def _pairs(records: Iterator[bytes], name: str) -> Iterator[Pair]:
    number = 0
    for image in records:
        checked = _checked(f"record {number} of {name}", image, _IMAGE)
        annotation = next(records, None)
        if annotation is None:
            raise DataError(f"{name} ends after record {number}, an image without its annotation; {_ATTRIBUTES}")
        yield Pair(checked, _checked(f"record {number + 1} of {name}", annotation, _ANNOTATION))
        number += 2
    if not number:
        raise DataError(
            f"{name} ended without a record.", "Check the S3 URI of the channel, and that the manifest has lines."
        )


def _checked(name: str, data: bytes, kinds: tuple[Kind, ...]) -> LoadedFile:
    """The record as a file. Raises DataError unless its first bytes are those of one of the kinds."""
    kind = kind_of(data)
    if kind not in kinds:
        got = kind.name if kind else f"{len(data)} bytes of something else" if data else "an empty record"
        expected = " or ".join(one.name for one in kinds)
        raise DataError(f"{name}: expected {expected}, got {got}; {_ATTRIBUTES}")
    return LoadedFile(name, data)
