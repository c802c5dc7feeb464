"""`semseg pipe`: writes FIFOs for a job in Pipe mode, as SageMaker does."""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from semseg.codecs.recordio import MAGIC, frame
from semseg.data.pairs import Pair
from semseg.data.threads import READERS, map_in_order
from semseg.errors import DataError, UserError
from semseg.sagemaker.job import stop_on_signals

logger = logging.getLogger("semseg")

_PAIRS_AHEAD = 32
_SLICE = 0.05
"""Seconds between two checks whether to stop while waiting for the reader."""


def write_pipe(pairs: Sequence[Pair], directory: Path, channel: str, epochs: int | None) -> None:
    """Call `write_pipe_until` until SIGTERM, SIGINT or SIGHUP; for a process that does nothing else."""
    write_pipe_until(stop_on_signals().is_set, pairs, directory, channel, epochs)


def write_pipe_until(
    stop: Callable[[], bool], pairs: Sequence[Pair], directory: Path, channel: str, epochs: int | None
) -> None:
    """Create the FIFO ``<directory>/<channel>_0``, write all pairs to its reader, remove it, then ``_1``, and so on.

    The image and the annotation of a pair are two consecutive records. A reader may leave early. Returns after
    `epochs`, if given, or soon after `stop()` becomes true, and leaves no FIFO behind.

    Raises UserError if the FIFO cannot be created or its name is taken, and DataError for a file that cannot be read.
    """
    for epoch in count() if epochs is None else range(epochs):
        if stop():
            return
        path = directory / f"{channel}_{epoch}"
        _create(path)
        try:
            writer = _wait_for_reader(path, stop)
            if writer is not None:
                _write_epoch(writer, path.name, pairs, stop)
        finally:
            path.unlink(missing_ok=True)


def _create(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    except FileExistsError as error:
        if not path.parent.is_dir():
            raise UserError(f"{path.parent} is not a directory.", "Choose another directory.") from error
        raise UserError(f"{path} already exists.", "Remove it, or stop the other `semseg pipe`.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be created: {error.strerror}.") from error


def _wait_for_reader(path: Path, stop: Callable[[], bool]) -> int | None:
    """Wait until a reader opens the FIFO. Returns a non-blocking descriptor for writing; None once `stop()` is true."""
    while not stop():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: there is no reader yet
                raise UserError(f"{path} cannot be written: {error.strerror}.") from error
            time.sleep(_SLICE)
    return None


def _write_epoch(writer: int, name: str, pairs: Iterable[Pair], stop: Callable[[], bool]) -> None:
    written = 0
    try:
        with closing(map_in_order(_records, pairs, READERS, _PAIRS_AHEAD)) as stream:
            for records in stream:
                if not _write(writer, records, stop):
                    return
                written += 1
        logger.info("%s: all %d pairs were written.", name, written)
    except BrokenPipeError:
        logger.info("%s: the reader left after %d pairs.", name, written)
    except DataError:
        with suppress(BrokenPipeError):  # an incomplete record: the reader must not take the stream for complete
            _write(writer, MAGIC.to_bytes(4, "little"), stop)
        raise
    finally:
        os.close(writer)


def _records(pair: Pair) -> bytes:
    return b"".join([*frame([pair.image.read()]), *frame([pair.mask.read()])])


def _write(writer: int, data: bytes, stop: Callable[[], bool]) -> bool:
    """Write all data, however slow the reader; False if `stop()` came first. Raises BrokenPipeError."""
    poll = select.poll()
    poll.register(writer, select.POLLOUT)
    left = memoryview(data)
    while left and not stop():
        if poll.poll(1000 * _SLICE):
            left = left[os.write(writer, left) :]
    return not left
