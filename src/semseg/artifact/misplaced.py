"""Finds a model that is not where it is expected: in a folder below, or still packed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from semseg.errors import one_line

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""The suffixes of packed models."""

_OUTPUT = "output.tar.gz"  # a job's output/data, which the platform packs beside its model.tar.gz
_MAX_FOLDERS = 200


def is_packed_model(path: Path) -> bool:
    """Return whether a path is an archive that may hold a model, which excludes hidden files and a job's output."""
    return names_packed_model(path.name) and path.is_file()


def names_packed_model(name: str) -> bool:
    """Return whether a file of this name, without its folder, may be such an archive."""
    return name.endswith(ARCHIVES) and name != _OUTPUT and not name.startswith(".")


def find_misplaced(directory: Path, parameters: Collection[str]) -> str:
    """Return a hint that names the model found in or below a directory and says how to use it; empty if none is found.

    parameters: the names of parameter files. At most 200 folders are searched, without hidden ones.
    """
    for folder, folders, files in islice(os.walk(directory), _MAX_FOLDERS):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(folder)
        if any(name in parameters and (place / name).is_file() for name in files):
            return f"There is a model in {_printable(place)}: give that folder, or move its files up."
        if archive := next(filter(is_packed_model, sorted(place / name for name in files)), None):
            command = f"tar -xf {shlex.quote(str(archive))} -C {shlex.quote(str(directory))}"
            return f"{_printable(archive)} is still packed: unpack it with {one_line(command)}."
    return ""


def _printable(path: Path) -> str:
    return one_line(str(path))
