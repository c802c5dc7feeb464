"""Which key of a manifest's lines names the annotation, and which lines have none.

A labeling job writes a line for each image, also where nobody labelled it: such a line has metadata alone, often with a
``failure-reason``. A job that adjusts another one's labels leaves both keys, each of which ends in ``-ref``.
"""

from __future__ import annotations

import logging
from typing import Any

from semseg.errors import DataError, first_few, one_line

logger = logging.getLogger("semseg")

IMAGE = "source-ref"
_METADATA = "-metadata"
_FAILURE = "failure-reason"


class LabelAttributes:
    """The annotation's key, line by line; lines without one, or with several, are counted.

    wanted: the key, where lines have several; None: the only one that ends in ``-ref``, ``source-ref`` aside.
    """

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._found: dict[str, None] = {}
        self._unlabelled = _Lines()
        self._undecided = _Lines()
        self._reason = ""

    def of(self, line: int, entry: dict[str, Any]) -> str | None:
        """The key of a line's annotation; None if the line is unlabelled or undecided, which is noted.

        Raises ValueError for a line that is neither.
        """
        keys = [key for key in entry if key.endswith("-ref") and key != IMAGE]
        self._found.update(dict.fromkeys(keys[:10]))
        if self._wanted:
            keys = [key for key in keys if key == self._wanted]
        if IMAGE in entry and len(keys) > 1:
            self._undecided.add(line)
            return None
        if IMAGE in entry and self._is_unlabelled(entry, keys):
            self._unlabelled.add(line)
            self._reason = self._reason or _failure(entry)
            return None
        if IMAGE in entry and keys:
            return keys[0]
        shown = ", ".join(f"{key!r:.100}" for key in list(entry)[:10])
        raise ValueError(f"has not {IMAGE} and exactly one other key that ends in -ref, but {shown or 'no key'}")

    def problem(self, manifest: str, labelled: int) -> DataError | None:
        """What is wrong with the lines as a whole, of which so many are labelled; unlabelled ones beside them are
        logged as a warning."""
        found = first_few([f"{key!r:.100}" for key in self._found])
        if self._undecided.count:
            return DataError(
                f"{self._undecided} of {manifest}: has several keys that end in -ref: {found}.",
                "Name the annotation's key in the hyperparameter _label_attribute.",
            )
        if not self._unlabelled.count:
            return None
        reason = f" ({_FAILURE}: {self._reason})" if self._reason else ""
        if labelled:
            what = f"has no label {self._wanted!r:.100}" if self._wanted else "was never labelled"
            logger.warning("%s of %s: %s, and is skipped%s.", self._unlabelled, manifest, what, reason)
            return None
        if self._wanted and self._found:
            return DataError(
                f"No line of {manifest} is labelled with {self._wanted!r:.100}, but with {found}.",
                "Correct the hyperparameter _label_attribute.",
            )
        return DataError(
            f"No line of {manifest} is labelled{reason}: none has a key but {IMAGE} that ends in -ref.",
            "Give the output manifest of a labeling job, not its input.",
        )

    def _is_unlabelled(self, entry: dict[str, Any], keys: list[str]) -> bool:
        if keys:
            return entry[keys[0]] in (None, "") and bool(_failure(entry))
        return bool(self._wanted or _failure(entry)) or all(key == IMAGE or key.endswith(_METADATA) for key in entry)


class _Lines:
    """Some lines of a file, as a message names them: ``line 5``, or ``line 5 (and 3 more)``."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0

    def add(self, line: int) -> None:
        self._first = self._first or line
        self.count += 1

    def __str__(self) -> str:
        return f"line {self._first}" + (f" (and {self.count - 1} more)" if self.count > 1 else "")


def _failure(entry: dict[str, Any]) -> str:
    """Why a labeling job failed to label an image, on one line; empty if the line does not say."""
    for key, metadata in entry.items():
        if key.endswith(_METADATA) and isinstance(metadata, dict) and metadata.get(_FAILURE):
            return one_line(f"{metadata[_FAILURE]!s:.200}")
    return ""
