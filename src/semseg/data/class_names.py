"""The names and colours that people give classes: `names` in a label map, and the files classes.json and classes.txt.

["background", "scratch"]                                       one entry for each class, in the order of the ids
{"1": "scratch", "2": {"name": "dent", "color": "#ff7f0e"}}     or entries by class id; colours may be [255, 127, 14]

classes.json holds such names, alone or under the key `names`, or is the classes.json of a model. classes.txt has a name
on each line, and may have a colour after it: ``scratch #2ca02c``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from semseg.codecs.colors import color_name, parse_color
from semseg.data.files import printable, read_file
from semseg.data.json_text import byte, parse_json, require_unique
from semseg.errors import DataError
from semseg.types import IGNORED, Classes, is_class_name

FILES = ("classes.json", "classes.txt")
MAX_BYTES = 1_000_000
"""Limit for a file of names, and for a label map; 254 of the longest names have a quarter of it."""

_FORMS = (
    'Write a list with a name for each class, ["background", "scratch"], or names by class id, {"1": "scratch"}; '
    'with a colour, a name is {"name": "scratch", "color": "#2ca02c"}.'
)
_SEPARATORS = " \t,;"

_Entry = tuple[int, str, Any]
"""Class id, where it is given (for errors), and what is given for it."""


def read_classes(path: Path, num_classes: int) -> Classes:
    """Read classes.json or classes.txt. Raises DataError, naming the file and the entry."""
    content, name = read_file(path, MAX_BYTES), printable(path)
    if path.suffix == ".txt":
        return _of_lines(content, num_classes, name)
    try:
        value = parse_json(content)
        require_unique(value)
    except ValueError as error:
        raise DataError(f"{name}: {error}.", _FORMS) from error
    if isinstance(value, dict) and "classes" in value:
        return _of_model(value, num_classes, name)
    if isinstance(value, dict) and "names" in value:
        return parse_names(value["names"], num_classes, f"{name}: 'names'")
    return parse_names(value, num_classes, name)


def parse_names(value: Any, num_classes: int, where: str) -> Classes:
    """Check the JSON value of a list of names, or of names by class id, with or without colours.

    where: the file and the key, for errors. Raises DataError.
    """
    if isinstance(value, list):
        _require_each_class(len(value), num_classes, where)
        entries: list[_Entry] = [(number, f"{where}: entry {number}", entry) for number, entry in enumerate(value)]
    else:
        entries = list(_by_id(value, num_classes, where))
    return _checked(((number, place, *_name_and_color(place, entry)) for number, place, entry in entries), num_classes)


def _by_id(value: Any, num_classes: int, where: str) -> Iterator[_Entry]:
    if not isinstance(value, dict) or not value:
        raise DataError(f"{where} is neither a list nor an object with names.", _FORMS)
    try:
        require_unique(value)
    except ValueError as error:
        raise DataError(f"{where}: {error}.", _FORMS) from error
    seen = set()
    for key, entry in value.items():
        number = byte(key)
        if number is None or number >= num_classes or number in seen:
            ignored = " 255 is ignored, and has no name." if number == IGNORED else ""
            raise DataError(
                f"{where}: key {key!r:.100} is not a class or is repeated.",
                f"Classes are 0 to {num_classes - 1} (num_classes is {num_classes}).{ignored}",
            )
        seen.add(number)
        yield number, f"{where}: key {key!r}", entry


def _name_and_color(where: str, entry: Any) -> tuple[Any, Any]:
    """The name and the colour of an entry, not checked yet."""
    if not isinstance(entry, dict):
        return entry, None
    try:
        require_unique(entry)
    except ValueError as error:
        raise DataError(f"{where}: {error}.", _FORMS) from error
    unknown = sorted(entry.keys() - {"name", "color"})
    if unknown or not entry:
        found = f"unknown key {unknown[0]!r:.100}" if unknown else "is empty"
        raise DataError(f"{where}: {found}.", _FORMS)
    return entry.get("name"), entry.get("color")


def _of_model(value: dict[str, Any], num_classes: int, name: str) -> Classes:
    """The content of a model's classes.json: a list of names under `classes`, colours by class id under `colors`."""
    classes = parse_names(value["classes"], num_classes, f"{name}: 'classes'")
    if not value.get("colors"):
        return classes
    given = _by_id(value["colors"], num_classes, f"{name}: 'colors'")
    colored = ((number, where, None, color) for number, where, color in given)
    return classes.completed(_checked(colored, num_classes))


def _of_lines(content: bytes, num_classes: int, name: str) -> Classes:
    try:
        lines = content.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: byte {error.start + 1} is not UTF-8.", "Save it as UTF-8.") from error
    _require_each_class(len(lines), num_classes, name)
    entries = ((number, f"{name}: line {number + 1}", *_parts(line.strip())) for number, line in enumerate(lines))
    return _checked(entries, num_classes)


def _parts(line: str) -> tuple[str, str | None]:
    """The name and the colour of a line; a colour begins with the last # that follows a separator, without spaces."""
    name, mark, digits = line.rpartition("#")
    if mark and not digits.count(" ") + digits.count("\t") and (not name or name[-1] in _SEPARATORS):
        return name.rstrip(_SEPARATORS), f"#{digits}"
    return line, None


def _require_each_class(count: int, num_classes: int, where: str) -> None:
    if count != num_classes:
        raise DataError(
            f"{where} has {count} entries, but num_classes is {num_classes}.",
            "Give one name for each class, in the order of class ids, or give names by class id in JSON: "
            '{"1": "scratch"}.',
        )


def _checked(entries: Iterable[tuple[int, str, Any, Any]], num_classes: int) -> Classes:
    """The classes of (id, where it is given, name or None, colour or None). Raises DataError."""
    names: list[str | None] = [None] * num_classes
    colors: list[int | None] = [None] * num_classes
    for number, where, given, color in entries:
        if given is not None or color is None:
            name = given.strip() if isinstance(given, str) else given
            if not is_class_name(name):
                raise DataError(
                    f"{where}: {given!r:.100} is not a name.", "A name is a text of 1 to 256 characters on one line."
                )
            _require_new(name, names, where, repr(name))
            names[number] = name
        if color is not None:
            packed = _color(color, where)
            _require_new(packed, colors, where, color_name(packed))
            colors[number] = packed
    return Classes(tuple(names), tuple(colors))


def _require_new(value: Any, known: list[Any], where: str, shown: str) -> None:
    if value in known:
        raise DataError(
            f"{where}: {shown:.100} is already that of class {known.index(value)}.",
            "Give each class another name and another colour.",
        )


def _color(value: Any, where: str) -> int:
    try:
        if isinstance(value, list) and len(value) == 3:
            red, green, blue = (channel if type(channel) is int else -1 for channel in value)
            return int.from_bytes(bytes([red, green, blue]))
        return parse_color(str(value))
    except ValueError as error:
        raise DataError(
            f"{where}: {value!r:.40} is not a colour.", "Write colours like '#2ca02c' or [44, 160, 44]."
        ) from error
