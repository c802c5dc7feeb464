"""Where the files of pretrained backbones lie on this machine, and how one is fetched.

A store, GluonCV's own for one, holds each file packed: `NAME.zip` has the one member `NAME.params`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import struct
import tempfile
import threading
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from semseg.errors import DiskFullError, WeightsError, one_line
from semseg.files import replacing
from semseg.machine import is_own

MAX_BYTES = 256 << 20
"""Of a file, packed or unpacked: that of ResNet-101 has 179 MB."""

OFFLINE = "SEMSEG_OFFLINE"
"""The variable that forbids fetching, unless it is empty or 0."""

ABSENT = "is not there"
"""The fault of a file that is not there."""

_LOGGER = logging.getLogger(__name__)
_PIECE = 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class StoredFile:
    """A file that a store has. name: with .params; sha1: of its content, in hexadecimal; url: where the zip is."""

    name: str
    sha1: str
    url: str


def models_folder() -> Path:
    """Return the folder where MXNet keeps model files: `$MXNET_HOME/models`, by default ~/.mxnet/models."""
    return Path(os.environ.get("MXNET_HOME", "~/.mxnet")).expanduser() / "models"


def spare_folder() -> Path:
    """Return the folder that stands in for one that cannot be written: below the temporary one, a user's own."""
    return Path(tempfile.gettempdir()) / f"semseg-models-{os.getuid()}"


def fault(path: Path, sha1: str) -> str:
    """Return what is wrong with a file, as the end of a sentence that begins with its name; nothing if it is right."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha1").hexdigest()
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == sha1 else f"is damaged (SHA-1 {found})"


def writable_folder() -> Path:
    """Return the models' folder or, where it cannot be made or written, the spare one; it is there then.

    Raises WeightsError when neither will do.
    """
    folder, spare = models_folder(), spare_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        return folder
    with suppress(OSError):
        spare.mkdir(mode=0o700)
    if not is_own(spare):
        raise WeightsError(f"{folder} cannot be written, and {spare} is no folder of this user alone.")
    _LOGGER.warning("%s cannot be written: %s takes its place.", folder, spare)
    return spare


def fetch(file: StoredFile, folder: Path | None, seconds: float, max_bytes: int = MAX_BYTES) -> Path:
    """Download a file, in one attempt, and put it into the folder whole and with the right SHA-1, or not at all.

    folder: made if need be; `writable_folder` when None. The download takes at most so many seconds, whatever the
    server does, and it and the file at most `max_bytes` each. Return the file's path.
    Raises WeightsError, which says why it is not to be had.
    """
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise WeightsError(f"{file.name} was not fetched, because {OFFLINE} is set.")
    folder = folder or writable_folder()
    _LOGGER.info("Fetching %s, for at most %g seconds.", file.url, seconds)
    path = folder / file.name
    try:
        with placing(path) as temporary, tempfile.TemporaryFile(dir=folder) as packed:
            _within(seconds, lambda: _download(file.url, packed, seconds, max_bytes))
            _unpack(packed, file, temporary, max_bytes)
    except _FetchError as error:
        raise WeightsError(f"{one_line(file.url)} {error}.") from error
    _LOGGER.info("Fetched %s.", path)
    return path


@contextmanager
def placing(path: Path, hint: str = "") -> Iterator[Path]:
    """Yield a temporary path that no other process has; what is written there becomes `path` at once, or not at all.

    The folder is made if need be. Raises WeightsError, with the hint, when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, path.with_name(f".{path.name}.{uuid.uuid4().hex}")) as temporary:
            yield temporary
    except (OSError, DiskFullError) as error:
        reason = error.strerror if isinstance(error, OSError) else os.strerror(errno.ENOSPC)
        raise WeightsError(f"{path} cannot be written: {reason}.", hint) from error


class _FetchError(Exception):
    """The end of a sentence that begins with the file's address."""


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Wait for `work` so long and no longer.

    A thread does it, which nobody waits for afterwards: a socket's timeout bounds neither the look-up of a name, nor
    the addresses tried one after the other, nor an answer that comes a byte at a time.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # it is raised below
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    try:
        done.result(seconds)
    except TimeoutError:
        raise _FetchError(f"took longer than {seconds:g} seconds") from None


def _download(url: str, target: IO[bytes], seconds: float, max_bytes: int) -> None:
    """Write what the address answers. Its own timeout only ends the thread, some time after nobody waits any more."""
    import requests

    headers = {"Accept-Encoding": "identity"}
    try:
        with requests.get(url, stream=True, timeout=2 * seconds, headers=headers) as response:
            if response.status_code != requests.codes.ok:
                raise _FetchError(f"answers {response.status_code} {response.reason}")
            size = 0
            for piece in response.iter_content(_PIECE):
                size += len(piece)
                if size > max_bytes:
                    raise _FetchError(f"has more than the {max_bytes:,} bytes allowed")
                target.write(piece)
    except requests.RequestException as error:
        raise _FetchError(f"failed: {_root(error)!r:.200}") from error


def _root(error: BaseException) -> BaseException:
    """The error that all began with, which says in a few words what requests wraps in many."""
    while error.__context__:
        error = error.__context__
    return error


def _unpack(packed: IO[bytes], file: StoredFile, target: Path, max_bytes: int) -> None:
    """Write the member of the file's name; `zipfile` gives no more bytes of it than it declares."""
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [member for member in archive.infolist() if member.filename == file.name]
            if len(members) != 1 or members[0].compress_type not in _METHODS:
                raise _FetchError(f"is no zip with the one member {file.name}")
            if members[0].file_size > max_bytes:
                raise _FetchError(f"unpacks to {members[0].file_size:,} bytes, more than the {max_bytes:,} allowed")
            with archive.open(members[0]) as content, target.open("xb") as output:
                while piece := content.read(_PIECE):
                    digest.update(piece)
                    output.write(piece)
    except _ZIP_FAULTS as error:
        raise _FetchError(f"is a damaged zip: {error!s:.200}") from error
    if digest.hexdigest() != file.sha1:
        raise _FetchError(f"holds a {file.name} with the SHA-1 {digest.hexdigest()} instead of {file.sha1}")
