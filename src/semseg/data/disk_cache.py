"""Keeps files from the network on the local disk."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

from semseg.files import scratch_folder

logger = logging.getLogger("semseg")


class DiskCache:
    """A thread-safe cache of file contents by name, in a directory of its own below the temporary directory.

    It uses up to half of the space that is free at first, and never evicts: as every epoch reads all files in turn, an
    evicted file would be needed again before the one that replaced it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resources = ExitStack()
        self._directory: Path | None = None
        self._space = 0
        self._full = False

    def get(self, name: str) -> bytes | None:
        """The content stored under this name; None if there is none."""
        try:
            return _path(self._directory, name).read_bytes() if self._directory else None
        except OSError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Store the content if there is space. If the disk cannot be written to, caching ends without an error."""
        with self._lock:
            directory = None if self._full else self._reserve(len(content))
        if directory is None:
            return
        path = _path(directory, name)
        temporary = path.with_suffix(f".{threading.get_ident()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            with self._lock:
                self._stop_caching(f"{error.strerror}")

    def close(self) -> None:
        """Remove the directory."""
        self._resources.close()

    def _reserve(self, size: int) -> Path | None:
        """Reserve `size` bytes and return the directory; None if there is not enough space."""
        if self._directory is None:
            try:
                self._directory = self._resources.enter_context(scratch_folder())
                self._space = shutil.disk_usage(self._directory).free // 2
            except OSError as error:
                self._stop_caching(f"{error.strerror}")
                return None
        if size > self._space:
            self._stop_caching("half of the free space is used")
            return None
        self._space -= size
        return self._directory

    def _stop_caching(self, reason: str) -> None:
        if not self._full:
            logger.warning(
                "No more files are cached in the temporary directory (%s): the rest is fetched again each time", reason
            )
        self._full = True


def _path(directory: Path, name: str) -> Path:
    return directory / hashlib.sha256(name.encode()).hexdigest()
