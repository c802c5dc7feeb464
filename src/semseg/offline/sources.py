"""Finds the images that a user names: files, folders, patterns and addresses in S3."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from semseg.data.files import File, LocalFile, counts_as_file
from semseg.data.image_files import (
    CONVERTED,
    IMAGES,
    files_below,
    images_among,
    is_named,
    warn_of_other_formats,
    without_originals,
)
from semseg.data.s3 import ObjectStore
from semseg.errors import UserError, one_line

SUFFIXES = (*IMAGES, *CONVERTED)
"""Those of images in folders, in small letters; other files are ignored there."""

_S3 = "s3://"
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """An image to read.

    file: its bytes, named by its path or address; path: its path below the folder, pattern or prefix that was given,
    which its results mirror.
    """

    file: File
    path: PurePosixPath


def find_images(given: Sequence[str], store: ObjectStore, results: Path) -> list[Source]:
    """Returns the images at all places, sorted within each, without repetitions.

    given: each a file; a folder, which is searched with all its sub-folders, links included, but no hidden ones; a
    pattern such as `photos/**/*.jpg`; or an object or prefix in S3. Files that are named one by one mirror their common
    folder. results: a folder that is not searched.

    Raises UserError for a place without images and if `results` is one of the folders, DataError if S3 refuses.
    """
    named = [Path(place) for place in given if _is_path(place) and not Path(place).is_dir()]
    top = Path(os.path.commonpath([os.path.normpath(path.parent.absolute()) for path in named])) if named else Path()
    found: dict[tuple[str, str], Source] = {}
    for place in given:
        count = 0
        for source in _at(place, store, results, top):
            found.setdefault((source.file.name, str(source.path)), source)
            count += 1
        if not count:
            raise UserError(f"There is no image at {one_line(place)}.", f"Images are {' or '.join(SUFFIXES)} files.")
    return list(found.values())


def _at(place: str, store: ObjectStore, results: Path, top: Path) -> Iterator[Source]:
    if place.startswith(_S3):
        files = store.files(place)
        names = [PurePosixPath(name) for name in sorted(files)]
        images = (name for name in names if is_named(name, SUFFIXES) or place.endswith(f"/{name}"))
        warn_of_other_formats(name for name in names if not place.endswith(f"/{name}"))
        yield from (Source(files[str(name)], name) for name in without_originals(images))
    elif not _is_path(place):
        start = Path(place[: _PATTERN.search(place).start()] + "x").parent  # type: ignore[union-attr]
        yield from _matching(place, start, results)
    elif place and Path(place).is_dir():
        if _same(Path(place), results):
            raise UserError(
                f"The results would be written into {one_line(place)}, among the images.",
                "Name another folder with --out.",
            )
        below = _files_below(Path(place), results)
        yield from (_local(path, Path(place)) for path in images_among(below, SUFFIXES))
    elif counts_as_file(Path(place)):
        yield _local(Path(place), top)
    else:
        raise UserError(f"There is no file or folder {one_line(place)}.", "Give images, folders or patterns.")


def _is_path(place: str) -> bool:
    """Whether a place is a path, and neither a pattern nor in S3. What exists is a path, whatever its name."""
    return not place.startswith(_S3) and (os.path.lexists(place) or not _PATTERN.search(place))


def _matching(pattern: str, start: Path, results: Path) -> Iterator[Source]:
    """The images that match a pattern, and those in folders that do; `start`: what their paths are relative to."""
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - Path.glob would search hidden folders
    around = _is_in(start, results)  # then the results are not among the images, but the images among the results
    found: dict[Path, None] = {}
    for match in sorted(map(Path, matches)):
        files = _files_below(match, results) if match.is_dir() else filter(counts_as_file, [match])
        found |= dict.fromkeys(path for path in files if around or not _is_in(path, results))
    yield from (_local(path, start) for path in images_among(found, SUFFIXES))


def _files_below(folder: Path, results: Path) -> Iterator[Path]:
    return files_below(folder, left_out=lambda place: _same(place, results))


def _local(path: Path, top: Path) -> Source:
    return Source(LocalFile(path, given=str(path)), PurePosixPath(os.path.relpath(path, top)))


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))  # Path.resolve fails for endless links


def require_distinct(targets: Iterable[tuple[Source, Path]]) -> None:
    """Raises UserError if two images would write the same file, or one would overwrite an image that is read."""
    pairs = list(targets)
    images = {os.path.realpath(source.file.path) for source, _ in pairs if isinstance(source.file, LocalFile)}
    writers: dict[Path, Source] = {}
    for source, target in pairs:
        other = writers.setdefault(target, source)
        if other is not source:
            raise UserError(
                f"The results of {other.file.name} and of {source.file.name} would both be {one_line(str(target))}.",
                "Rename one of the images, or segment them with two commands and two folders for --out.",
            )
        if os.path.realpath(target) in images:
            raise UserError(
                f"{one_line(str(target))} is an image that is read; it would be overwritten.",
                "Name another folder with --out.",
            )
