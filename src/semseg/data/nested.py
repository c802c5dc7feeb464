"""Finds the files below a folder, for folders that are not channels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and all folders below it, sorted by path; what is hidden is left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))
