"""Matches file names that look the same but have different Unicode normal forms, as on macOS and Linux.

``ö`` may be one character (form NFC) or ``o`` and an accent (NFD): they look equal, but are different
files (Unicode Standard Annex 15).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize


def by_form(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by their NFC form; names that look the same share an entry, sorted."""
    forms: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        forms[normalize("NFC", name)].append(name)
    return dict(forms)


class FileFinder:
    """Finds files whose names have another normal form; lists each directory once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, path: Path) -> Path:
        """The entry at an absolute path, or else the only one that looks the same; `path` itself if there is none.

        Raises OSError for a path that cannot be looked up.
        """
        if path.exists():
            return path
        found = Path(path.anchor)
        for part in path.parts[1:]:
            if not (found / part).exists():
                alike = self._names(found).get(normalize("NFC", part), [])
                if len(alike) != 1:
                    return path
                part = alike[0]
            found /= part
        return found

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            self._listed[folder] = by_form(entry.name for entry in folder.iterdir()) if folder.is_dir() else {}
        return self._listed[folder]
