"""Keeps the files of pretrained backbones on this machine, and fetches them from a store.

A store, such as GluonCV's own, holds each file packed: `NAME.zip` has the one member `NAME.params`.
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
"""Limit for a file, packed or unpacked: that of ResNet-101 has 179 MB."""

OFFLINE = "SEMSEG_OFFLINE"
"""The environment variable that forbids downloads, unless it is empty or 0."""

ABSENT = "is not there"
"""What `fault` returns for a missing file."""

_LOGGER = logging.getLogger(__name__)
_PIECE = 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class StoredFile:
    """A file in a store. name: with .params; sha1: of its content, in hexadecimal; url: the address of its zip."""

    name: str
    sha1: str
    url: str


def models_folder() -> Path:
    """Return the folder where MXNet keeps model files: `$MXNET_HOME/models`, by default ~/.mxnet/models."""
    return Path(os.environ.get("MXNET_HOME", "~/.mxnet")).expanduser() / "models"


def fallback_folder() -> Path:
    """Return the folder to use if the models folder is not writable: the user's own, in the temporary directory."""
    return Path(tempfile.gettempdir()) / f"semseg-models-{os.getuid()}"


def fault(path: Path, sha1: str) -> str:
    """Return what is wrong with a file, as a sentence without its subject, the file; empty if nothing is wrong."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha1").hexdigest()
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == sha1 else f"is damaged (SHA-1 {found})"


def writable_folder() -> Path:
    """Return the models folder or, if it cannot be created or written, the fallback folder; creates it if necessary.

    Raises WeightsError if neither can be used.
    """
    folder, fallback = models_folder(), fallback_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        return folder
    with suppress(OSError):
        fallback.mkdir(mode=0o700)
    if not is_own(fallback):
        raise WeightsError(f"{folder} cannot be written, and {fallback} is not a folder of this user alone.")
    _LOGGER.warning("%s cannot be written: using %s instead.", folder, fallback)
    return fallback


def fetch(file: StoredFile, folder: Path | None, seconds: float, max_bytes: int = MAX_BYTES) -> Path:
    """Download a file, in one attempt, into the folder and return its path. Nothing is kept if its SHA-1 is wrong.

    folder: created if necessary; `writable_folder` if None. The download takes at most `seconds`, whatever the server
    does; the zip and the file have at most `max_bytes` each. Raises WeightsError, with the reason, if it fails.
    """
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise WeightsError(f"{file.name} was not fetched, because {OFFLINE} is set.")
    folder = folder or writable_folder()
    _LOGGER.info("Fetching %s, for at most %g seconds.", file.url, seconds)
    path = folder / file.name
    try:
        with writing_file(path) as temporary, tempfile.TemporaryFile(dir=folder) as packed:
            _run_within(seconds, lambda: _download(file.url, packed, seconds, max_bytes))
            _unpack(packed, file, temporary, max_bytes)
    except _FetchError as error:
        raise WeightsError(f"{one_line(file.url)} {error}.") from error
    _LOGGER.info("Fetched %s.", path)
    return path


@contextmanager
def writing_file(path: Path, hint: str = "") -> Iterator[Path]:
    """Yield a temporary path, unique to this call, which replaces `path` at the end, or is removed on an error.

    Creates the folder if necessary. Raises WeightsError, with the hint, if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, path.with_name(f".{path.name}.{uuid.uuid4().hex}")) as temporary:
            yield temporary
    except (OSError, DiskFullError) as error:
        reason = error.strerror if isinstance(error, OSError) else os.strerror(errno.ENOSPC)
        raise WeightsError(f"{path} cannot be written: {reason}.", hint) from error


class _FetchError(Exception):
    """Why a download failed: a sentence without its subject, the file's address."""


def _run_within(seconds: float, work: Callable[[], None]) -> None:
    """Run `work` in a thread, and abandon it after `seconds`.

    The timeout of a socket would not do: it bounds neither the look-up of a name, nor the addresses tried one after the
    other, nor a response that comes a byte at a time.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised again by done.result
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    try:
        done.result(seconds)
    except TimeoutError:
        raise _FetchError(f"took longer than {seconds:g} seconds") from None


def _download(url: str, target: IO[bytes], seconds: float, max_bytes: int) -> None:
    """Write the response of a server. Its timeout only ends the thread, some time after it was abandoned."""
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
        raise _FetchError(f"failed: {_root_cause(error)!r:.200}") from error


def _root_cause(error: BaseException) -> BaseException:
    """The first error of a chain; requests wraps it in much longer messages."""
    while error.__context__:
        error = error.__context__
    return error


def _unpack(packed: IO[bytes], file: StoredFile, target: Path, max_bytes: int) -> None:
    """Write the member with the file's name; `zipfile` returns no more bytes of it than it declares."""
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [member for member in archive.infolist() if member.filename == file.name]
            if len(members) != 1 or members[0].compress_type not in _METHODS:
                raise _FetchError(f"is not a zip with the one member {file.name}")
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
