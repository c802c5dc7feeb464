"""Which files are images and masks, by their names, and where they are in folders."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path, PurePath
from typing import TypeVar

from semseg.data.files import counts_as_file, leads_nowhere
from semseg.errors import first_few, one_line

logger = logging.getLogger("semseg")

IMAGES = (".jpg", ".jpeg", ".png")
MASKS = (".png",)
"""The suffixes of the files in channels, in small letters; a file's own may be in capitals."""

CONVERTED = {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WebP", ".bmp": "BMP"}
"""Formats of a user's own files that are images too, once they are converted, by suffix."""

CONVERTED_MASKS = {suffix: name for suffix, name in CONVERTED.items() if name != "WebP"}
"""Those of masks; WebP is left out, because most of its files have lost the exact values."""

_NOT_READ = re.compile(
    r"\.(?:gif|hei[cf]|avif|jp2|j2k|jxl|jfif|jpe|psd|exr|hdr|dcm|svg|ico|p[pgbn]m|tga|dng|nef|cr2|arw)", re.IGNORECASE
)
"""The suffixes of images in other formats, and of JPEG files with unusual names."""

AnyPath = TypeVar("AnyPath", bound=PurePath)


def is_named(path: PurePath, suffixes: Container[str]) -> bool:
    """Whether a file has one of the suffixes and is not hidden, as the ``._`` files are that macOS adds."""
    return not path.name.startswith(".") and path.suffix.lower() in suffixes


def is_converted(path: PurePath) -> bool:
    """Whether a user's file has to be converted, as its name says."""
    return path.suffix.lower() in CONVERTED


def without_originals(paths: Iterable[AnyPath]) -> list[AnyPath]:
    """Leave out files that would be converted if a JPEG or PNG file beside them has the same stem: it is their copy.

    Warns of them.
    """
    found = list(paths)
    copies = {path.with_suffix("") for path in found if not is_converted(path)}
    originals = [path for path in found if is_converted(path) and path.with_suffix("") in copies]
    if originals:
        names = first_few([one_line(str(path)) for path in originals])
        logger.warning("Left out, as there are JPEG or PNG files of the same names: %s", names)
    left = frozenset(originals)
    return [path for path in found if path not in left]


def images_among(files: Iterable[Path], suffixes: Container[str]) -> list[Path]:
    """Those of a user's files that have one of the suffixes, without originals.

    Warns as `without_originals` and `warn_of_other_formats` do, and of links with other names that lead nowhere: they
    may be folders of images. Raises OSError.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in files:
        (found if is_named(path, suffixes) else others).append(path)
    if lost := [one_line(str(path)) for path in others if leads_nowhere(path)]:
        logger.warning("Left out, as they are links to what does not exist: %s", first_few(lost))
    warn_of_other_formats(others)
    return without_originals(found)


def warn_of_other_formats(others: Iterable[PurePath]) -> None:
    """Warn of files that are images by their names, though of formats that are not read."""
    images = [
        one_line(str(path)) for path in others if _NOT_READ.fullmatch(path.suffix) and not path.name.startswith(".")
    ]
    if images:
        logger.warning("Left out, as their formats are not read: %s. Convert them to PNG or JPEG.", first_few(images))


def files_below(folder: Path, left_out: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Yield the files in a folder and all folders below it, each folder once even if links lead to it again.

    They are sorted within each folder. Hidden files and folders are left out, folders for which `left_out` is true, and
    what does not count as a file. Raises OSError.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen or left_out(Path(place)):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (Path(place, name) for name in sorted(names) if not name.startswith("."))
        yield from filter(counts_as_file, files)


def _raise(error: OSError) -> None:
    raise error
