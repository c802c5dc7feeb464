"""Reports the files of a folder that cannot be read as images or masks: what they are, by their first bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from semseg.codecs.kinds import HEAD_BYTES, Kind, kind_of
from semseg.data.class_names import FILES as CLASS_FILES
from semseg.data.files import leads_nowhere, printable
from semseg.data.image_files import IMAGES
from semseg.errors import DataError, one_line

logger = logging.getLogger("semseg")

AS_MASK = "Save annotations as PNG masks of one 8-bit channel."
KNOWN = ("label_map.json", *CLASS_FILES)
"""Files beside the annotations that are read, though not as annotations."""

_MAX_WARNINGS = 20


def warn_of(strays: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Warn of each stray file in the built-in algorithm's words, or say that it is another image or leads nowhere.

    suffixes: those of the files that are read.
    """
    strays = [path for path in strays if path.name not in KNOWN]
    for path in strays[:_MAX_WARNINGS]:
        if kind := _other_image(path):
            logger.warning("%s is %s: only %s is read", one_line(str(path)), kind.name, " or ".join(suffixes))
        elif leads_nowhere(path):
            logger.warning("%s is a link to what does not exist", one_line(str(path)))
        else:
            logger.warning("%s is not a readable image file", one_line(str(path)))
    if len(strays) > _MAX_WARNINGS:
        logger.warning("%d more entries of %s are ignored", len(strays) - _MAX_WARNINGS, strays[0].parent)


def nothing_found(what: str, folder: Path, suffixes: Sequence[str], strays: Sequence[Path]) -> DataError:
    """Return the error for a folder without a file that is read; what: the folder in words; strays: all that it has."""
    nothing = "it is empty" if folder.is_dir() else "there is no such folder"
    content = f"none among {len(strays)} entries" if strays else nothing
    return DataError(
        f"{what} has no {' or '.join(suffixes)} file: {content}.",
        _format_hint(strays, suffixes) or f"Check the folder or S3 URI that was given: {one_line(str(folder))}.",
    )


def kind_of_file(path: Path) -> Kind | None:
    """Return the kind of a file by its first bytes; None if it is unknown, hidden or not a file."""
    try:
        if path.name.startswith(".") or not path.is_file():
            return None
        with path.open("rb", buffering=0) as file:
            return kind_of(file.read(HEAD_BYTES))
    except OSError:
        return None


def _format_hint(strays: Sequence[Path], suffixes: Sequence[str]) -> str:
    """The format of the first image that cannot be read, with advice; empty if there is none among the first strays."""
    kinds = ((path, _other_image(path)) for path in strays[:_MAX_WARNINGS])
    path, kind = next(((path, kind) for path, kind in kinds if kind), (None, None))
    if path is None or kind is None:
        return ""
    return f"{printable(path)} is {kind.name}. {kind.advice if IMAGES[0] in suffixes else AS_MASK}"


def _other_image(path: Path) -> Kind | None:
    """The kind of a stray file that is an image by its first bytes; otherwise None."""
    kind = kind_of_file(path)
    return kind if kind and kind.image else None
