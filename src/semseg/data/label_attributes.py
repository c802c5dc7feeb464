"""Finds the key of the annotation in the lines of a manifest, and lines without one.

A labeling job writes a line for each image, even if it was not labelled: such a line has only metadata, often with a
``failure-reason``. A job that adjusts the labels of another job keeps both keys, each ending in ``-ref``.
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
    """Finds the key of each line's annotation, and counts lines without one or with several.

    wanted: the key to use; None: the only key other than ``source-ref`` that ends in ``-ref``.
    """

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._found: dict[str, None] = {}
        self._unlabelled = _Lines()
        self._ambiguous = _Lines()
        self._reason = ""

    def of(self, line: int, entry: dict[str, Any]) -> str | None:
        """The key of a line's annotation; None, and the line is counted, if there is none or if there are several.

        Raises ValueError for any other line without such a key.
        """
        keys = [key for key in entry if key.endswith("-ref") and key != IMAGE]
        self._found.update(dict.fromkeys(keys[:10]))
        if self._wanted:
            keys = [key for key in keys if key == self._wanted]
        if IMAGE in entry and len(keys) > 1:
            self._ambiguous.add(line)
            return None
        if IMAGE in entry and self._is_unlabelled(entry, keys):
            self._unlabelled.add(line)
            self._reason = self._reason or _failure(entry)
            return None
        if IMAGE in entry and keys:
            return keys[0]
        keys_text = ", ".join(f"{key!r:.100}" for key in list(entry)[:10])
        raise ValueError(f"needs {IMAGE} and exactly one other key that ends in -ref, but has {keys_text or 'no key'}")

    def problem(self, manifest: str, labelled: int) -> DataError | None:
        """The error for unlabelled or ambiguous lines, or None; labelled: the number of usable lines.

        If there are usable lines, unlabelled ones are only logged as a warning.
        """
        found = first_few([f"{key!r:.100}" for key in self._found])
        if self._ambiguous.count:
            return DataError(
                f"{self._ambiguous} of {manifest}: has several keys that end in -ref: {found}.",
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
                f"No line of {manifest} has the label {self._wanted!r:.100}; the labels are {found}.",
                "Correct the hyperparameter _label_attribute.",
            )
        return DataError(
            f"No line of {manifest} is labelled{reason}: none has a key other than {IMAGE} that ends in -ref.",
            "Give the output manifest of a labeling job, not its input.",
        )

    def _is_unlabelled(self, entry: dict[str, Any], keys: list[str]) -> bool:
        if keys:
            return entry[keys[0]] in (None, "") and bool(_failure(entry))
        return bool(self._wanted or _failure(entry)) or all(key == IMAGE or key.endswith(_METADATA) for key in entry)


class _Lines:
    """Counts lines of a file, for messages such as ``line 5 (and 3 more)``."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0

    def add(self, line: int) -> None:
        self._first = self._first or line
        self.count += 1

    def __str__(self) -> str:
        return f"line {self._first}" + (f" (and {self.count - 1} more)" if self.count > 1 else "")


def _failure(entry: dict[str, Any]) -> str:
    """The reason why a labeling job failed to label an image, on one line; empty if none is given."""
    for key, metadata in entry.items():
        if key.endswith(_METADATA) and isinstance(metadata, dict) and metadata.get(_FAILURE):
            return one_line(f"{metadata[_FAILURE]!s:.200}")
    return ""
