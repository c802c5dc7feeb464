"""Where a model is that is not where it was looked for: in a folder below, or still packed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from semseg.errors import one_line

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""How the names of packed models end."""

_OUTPUT = "output.tar.gz"  # the platform puts a job's output/data so packed beside its model.tar.gz
_MAX_FOLDERS = 200


def is_packed_model(path: Path) -> bool:
    """Whether a path is that of an archive which may hold a model; hidden files and a job's output do not count."""
    name = path.name
    return name.endswith(ARCHIVES) and name != _OUTPUT and not name.startswith(".") and path.is_file()


def find_misplaced(directory: Path, parameters: Collection[str]) -> str:
    """A hint that names the model in or below a directory and says how to give it; empty if none is found.

    parameters: the names of files that are a model's. Of the folders below, hidden ones aside, 200 are looked into.
    """
    for folder, folders, files in islice(os.walk(directory), _MAX_FOLDERS):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(folder)
        if any(name in parameters and (place / name).is_file() for name in files):
            return f"There is a model in {_shown(place)}: give that folder, or move its files up."
        if archive := next(filter(is_packed_model, sorted(place / name for name in files)), None):
            command = f"tar -xf {shlex.quote(str(archive))} -C {shlex.quote(str(directory))}"
            return f"{_shown(archive)} is still packed: unpack it, as by {one_line(command)}."
    return ""


def _shown(path: Path) -> str:
    return one_line(str(path))
