"""Augmented manifests: JSON Lines that say which picture belongs to which mask (R36 to R42)."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from semseg.data.files import File, printable, read_file
from semseg.data.ground_truth import ColorMaps
from semseg.data.json_text import parse_object
from semseg.data.label_attributes import IMAGE, LabelAttributes
from semseg.data.normal_forms import FileFinder
from semseg.data.pairs import Listing, Pair
from semseg.data.s3 import ObjectStore
from semseg.errors import DataError, one_line

_MAX_LINE = 1_000_000
_MAX_LINES = 2_000_000
_MAX_PROBLEMS = 1000
_UNFIT = re.compile("[\0\ud800-\udfff]")  # what no file system and no S3 key can hold
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_EXAMPLE = 'Write one object a line, like {"source-ref": "s3://bucket/a.jpg", "street-ref": "s3://bucket/a.png"}.'


def list_manifest(name: str, path: Path, store: ObjectStore, label_attribute: str | None = None) -> Listing:
    """The pairs of the manifest at `path`, in the order of its lines, for the split `name`.

    A line is an object with ``source-ref`` and one other key that ends in ``-ref``: the picture's and the mask's
    ``s3://bucket/key``, or paths relative to the directory where the manifest really is. These may lead to sibling
    directories, no further. What else a line holds is ignored (R39) but for Ground Truth's class names and colours.
    label_attribute: the annotation's key, where lines have several. Lines that were never labelled are skipped with a
    warning, as long as others are.

    No file is opened. The first 1,000 wrong lines come back as problems, as does a manifest without lines. Raises
    Stopped where the store is told to stop.
    """
    problems: list[DataError] = []
    color_maps, attributes = ColorMaps(), LabelAttributes(label_attribute)
    places = _Places(printable(path), path.resolve().parent, store)
    listed: list[tuple[File, File, bool]] = []
    for line, text in _lines(path, problems):
        store.raise_if_stopped()
        if len(problems) == _MAX_PROBLEMS:
            problems.append(DataError(f"line {line} of {places.manifest} and those after it were not read."))
            break
        try:
            entry = parse_object(text)
            attribute = attributes.of(line, entry)
            if attribute is None:
                continue
            image, mask = (places.file(line, key, entry[key]) for key in (IMAGE, attribute))
            listed.append((image, mask, color_maps.add(line, entry, attribute)))
        except ValueError as error:
            problems.append(DataError(f"line {line} of {places.manifest}: {error}.", _EXAMPLE))
    if problem := attributes.problem(places.manifest, len(listed)):
        problems.append(problem)
    if not listed and not problems:
        problems.append(DataError(f"{places.manifest} is empty.", _EXAMPLE))
    colors = color_maps.joined()
    pairs = tuple(Pair(image, mask, colors if colored else None) for image, mask, colored in listed)
    return Listing(name, pairs, tuple(problems), colors)


@dataclass(frozen=True, slots=True)
class _ListedFile:
    """A file on this machine that a manifest lists, whose name may be spelled in another Unicode normal form."""

    path: str
    name: str
    finder: FileFinder

    def read(self) -> bytes:
        try:
            path = self.finder.find(Path(self.path))
            if not path.is_file():  # a FIFO would block
                raise DataError("There is no such file.")
            return read_file(path)
        except (OSError, DataError) as error:
            raise DataError(f"{self.name}: {one_line(str(error))}") from error


@dataclass(frozen=True)
class _Places:
    """Where the files are that the lines of a manifest name.

    manifest: what errors call it. root: its real directory.
    """

    manifest: str
    root: Path
    store: ObjectStore
    finder: FileFinder = field(default_factory=FileFinder)

    def file(self, line: int, key: str, value: Any) -> File:
        """The file that `value` names. Raises ValueError."""
        if not isinstance(value, str) or not value or _UNFIT.search(value):
            raise ValueError(f"{key} is {value!r:.200}, not the place of a file")
        name = one_line(f"line {line} of {self.manifest}: {key} {value:.300}")
        if value.startswith("s3://"):
            try:
                return self.store.file(value, name)
            except DataError as error:
                raise ValueError(f"{key}: {error.message}".rstrip(".")) from error
        return _ListedFile(self._path(key, value), name, self.finder)

    def _path(self, key: str, value: str) -> str:
        """The path of a file, symbolic links left as they are: only its text must not lead astray."""
        path = os.path.normpath(self.root / value)
        if value.startswith("/") or _SCHEME.match(value) or not Path(path).is_relative_to(self.root.parent):
            raise ValueError(
                f"{key} is {value!r:.200}, neither s3://bucket/key nor a path relative to the manifest's directory "
                "that stays within that or its siblings"
            )
        return path


def _lines(path: Path, problems: list[DataError]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1; what ends the reading becomes a problem."""
    try:
        with path.open("rb") as file:
            for number in count(1):
                line = file.readline(_MAX_LINE + 1)
                if not line:
                    return
                if len(line) > _MAX_LINE or number > _MAX_LINES:
                    what = f"is longer than {_MAX_LINE} bytes" if len(line) > _MAX_LINE else "is one too many"
                    problems.append(DataError(f"line {number} of {printable(path)} {what}.", _EXAMPLE))
                    return
                if line.removeprefix(BOM_UTF8).strip():
                    yield number, line.rstrip()
    except OSError as error:
        problems.append(DataError(f"{printable(path)} cannot be read: {error.strerror}."))
