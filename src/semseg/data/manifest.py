"""Reads augmented manifests: JSON Lines that list pairs of an image and a mask."""

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

_MAX_LINE = 1_000_000  # bytes
MAX_LINES = 2_000_000
_MAX_PROBLEMS = 1000
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # cannot occur in a file name or an S3 key
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_EXAMPLE = 'Write one object per line, like {"source-ref": "s3://bucket/a.jpg", "street-ref": "s3://bucket/a.png"}.'


def list_manifest(name: str, path: Path, store: ObjectStore, label_attribute: str | None = None) -> Listing:
    """List the pairs of the manifest at `path`, in the order of its lines, for the split `name`.

    A line is an object with ``source-ref`` and one other key that ends in ``-ref``: the ``s3://bucket/key`` of image
    and mask, or paths relative to the manifest's directory (symbolic links resolved). Paths may lead to sibling
    directories, but not beyond. Everything else is ignored except Ground Truth's class names and colours.
    label_attribute: the annotation's key, if lines have several. Unlabelled lines are skipped with a warning if there
    are labelled ones.

    None of the listed files is opened. The first 1,000 invalid lines are returned as problems, as is a manifest
    without lines. Raises Stopped if the store's `stop` returns true.
    """
    problems: list[DataError] = []
    color_maps, attributes = ColorMaps(), LabelAttributes(label_attribute)
    locations = _FileLocator(printable(path), path.resolve().parent, store)
    listed: list[tuple[File, File, bool]] = []
    for line, text in _lines(path, problems):
        store.raise_if_stopped()
        if len(problems) == _MAX_PROBLEMS:
            problems.append(DataError(f"line {line} of {locations.manifest} and the following ones were not read."))
            break
        try:
            entry = parse_object(text)
            attribute = attributes.of(line, entry)
            if attribute is None:
                continue
            image, mask = (locations.file(line, key, entry[key]) for key in (IMAGE, attribute))
            listed.append((image, mask, color_maps.add(line, entry, attribute)))
        except ValueError as error:
            problems.append(DataError(f"line {line} of {locations.manifest}: {error}.", _EXAMPLE))
    if problem := attributes.problem(locations.manifest, len(listed)):
        problems.append(problem)
    if not listed and not problems:
        problems.append(DataError(f"{locations.manifest} is empty.", _EXAMPLE))
    colors = color_maps.joined()
    pairs = tuple(Pair(image, mask, colors if colored else None) for image, mask, colored in listed)
    return Listing(name, pairs, tuple(problems), colors)


@dataclass(frozen=True, slots=True)
class _ListedFile:
    """A local file listed in a manifest; its name may be in another Unicode normal form."""

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
class _FileLocator:
    """Locates the files that the lines of a manifest name.

    manifest: its name for errors. root: its directory, symbolic links resolved.
    """

    manifest: str
    root: Path
    store: ObjectStore
    finder: FileFinder = field(default_factory=FileFinder)

    def file(self, line: int, key: str, value: Any) -> File:
        """The file that `value` names. Raises ValueError."""
        if not isinstance(value, str) or not value or _FORBIDDEN.search(value):
            raise ValueError(f"{key} is {value!r:.200}, not the path or address of a file")
        name = one_line(f"line {line} of {self.manifest}: {key} {value:.300}")
        if value.startswith("s3://"):
            try:
                return self.store.file(value, name)
            except DataError as error:
                raise ValueError(f"{key}: {error.message}".rstrip(".")) from error
        return _ListedFile(self._path(key, value), name, self.finder)

    def _path(self, key: str, value: str) -> str:
        """The path of a file. Only its text is checked: symbolic links are not resolved."""
        path = os.path.normpath(self.root / value)
        if value.startswith("/") or _SCHEME.match(value) or not Path(path).is_relative_to(self.root.parent):
            raise ValueError(
                f"{key} is {value!r:.200}, neither s3://bucket/key nor a path relative to the manifest's directory "
                "that stays inside it or a sibling directory"
            )
        return path


def _lines(path: Path, problems: list[DataError]) -> Iterator[tuple[int, bytes]]:
    """Yields the non-blank lines with their numbers from 1; an error that ends reading is added to `problems`."""
    try:
        with path.open("rb") as file:
            for number in count(1):
                line = file.readline(_MAX_LINE + 1)
                if not line:
                    return
                if len(line) > _MAX_LINE or number > MAX_LINES:
                    fault = (
                        f"is longer than {_MAX_LINE} bytes"
                        if len(line) > _MAX_LINE
                        else f"is beyond the limit of {MAX_LINES} lines"
                    )
                    problems.append(DataError(f"line {number} of {printable(path)} {fault}.", _EXAMPLE))
                    return
                if line.removeprefix(BOM_UTF8).strip():
                    yield number, line.rstrip()
    except OSError as error:
        problems.append(DataError(f"{printable(path)} cannot be read: {error.strerror}."))
