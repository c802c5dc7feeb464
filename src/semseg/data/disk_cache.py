"""Files from the network, kept on the disk of this machine."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import threading
from pathlib import Path

logger = logging.getLogger("semseg")


class DiskCache:
    """Contents by name, in a directory of its own below the temporary directory, for all threads.

    It takes up to half of what is free at first, and never evicts: epochs read all files in turn, so whatever were
    thrown out would be wanted before what replaced it. For such scans, keeping what came first is the best there is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directory: Path | None = None
        self._room = 0
        self._full = False

    def get(self, name: str) -> bytes | None:
        """What was put under this name, if it was kept."""
        try:
            return _path(self._directory, name).read_bytes() if self._directory else None
        except OSError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Keep this if there is room. A disk that cannot be written to ends the keeping, not the work."""
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
                self._end(f"{error.strerror}")

    def close(self) -> None:
        """Remove the directory."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _reserve(self, size: int) -> Path | None:
        """The directory, if there is room for so many bytes more."""
        if self._directory is None:
            try:
                self._directory = Path(tempfile.mkdtemp(prefix="semseg-cache-"))
                self._room = shutil.disk_usage(self._directory).free // 2
            except OSError as error:
                self._end(f"{error.strerror}")
                return None
        if size > self._room:
            self._end("half of what was free is used")
            return None
        self._room -= size
        return self._directory

    def _end(self, reason: str) -> None:
        if not self._full:
            logger.warning(
                "The temporary directory takes no more data (%s): the rest is fetched anew each time", reason
            )
        self._full = True


def _path(directory: Path, name: str) -> Path:
    return directory / hashlib.sha256(name.encode()).hexdigest()
