"""Label maps: from the pixel values of a mask to class ids.

{"scale": "3"}                         class = floor(pixel value / 3)
{"map": {"0": 5, "1": 0, "255": 9}}    key = class (255: ignored), value = pixel value
{"colors": {"0": "#000000", "1": ["#2ca02c", "#98df8a"]}}
                                       key = class (255: ignored), value = its colour, or several; an extension

Beside one of these, "names" gives the classes names, as `class_names` reads them: {"scale": 1, "names": ["a", "b"]}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.codecs.colors import parse_color
from semseg.codecs.masks import FEW_BITS, grey_step
from semseg.data.class_names import MAX_BYTES, parse_names
from semseg.data.files import printable, read_file
from semseg.data.json_text import byte, parse_object, require_unique
from semseg.errors import DataError
from semseg.types import IGNORED, Classes, UInt8

DEFAULT: dict[str, Any] = {"scale": 1}
_NAMES = "names"
UNLISTED_COLOR = 254
"""The value of pixels whose colour no label map lists; never a class, as num_classes is at most 254."""

_FORMS = (
    'Write {"scale": 1}, {"map": {"0": 5, "1": 0}} (class: pixel value) '
    'or {"colors": {"0": "#000000", "1": "#2ca02c"}} (class: colour).'
)


@dataclass(frozen=True)
class LabelMap:
    """The meaning of each of the 256 pixel values.

    table: uint8 (256,), class id or `IGNORED`.
    unlisted: bool (256,), values that the map does not list; they are ignored with a warning.
    invalid: bool (256,), values that would be a class of `num_classes` or above; `table` ignores them.
    num_classes: the number of classes of the network; ids are below it.
    source: the JSON object as given, without the names.
    colors: class id or `IGNORED` by colour (0xRRGGBB), if masks are read by colour. The pixel values are then these
        ids, and `UNLISTED_COLOR` for other colours.
    spread: the bit depths of grey masks whose values are scaled to 8 bits, as 0 and 1 to 0 and 255; at other depths,
        values count as stored.
    given: the names and colours of classes that the map, or a file beside it or the annotations, gives; None for none.
    name: what messages call it, such as its file.
    """

    table: UInt8
    unlisted: NDArray[np.bool_]
    invalid: NDArray[np.bool_]
    num_classes: int
    source: dict[str, Any]
    colors: Mapping[int, int] | None = None
    spread: frozenset[int] = frozenset()
    given: Classes | None = None
    name: str = ""

    @property
    def classes(self) -> Classes:
        """The names and colours of the classes; where none is given, masks that are read by colour give the colour."""
        first = {class_id: color for color, class_id in reversed(tuple((self.colors or {}).items()))}
        read = tuple(map(first.get, range(self.num_classes)))
        unknown = Classes((None,) * self.num_classes, read)
        return self.given.completed(unknown) if self.given else unknown

    @property
    def direct(self) -> bool:
        """Whether pixel values are the class ids: scale 1, the default."""
        return self.scale == 1

    @property
    def scale(self) -> float | None:
        """The divisor of pixel values; None for the other forms of map."""
        return _number(self.source["scale"]) if "scale" in self.source else None

    @property
    def uneven(self) -> NDArray[np.bool_]:
        """The values that the scale rounds down to the class of a smaller one, such as 4 under scale 3: bool (256,)."""
        if self.scale is None:
            return np.zeros(256, np.bool_)
        uneven: NDArray[np.bool_] = (np.diff(self.table, prepend=IGNORED) == 0) & (self.table != IGNORED)
        return uneven

    def apply(self, mask: UInt8) -> UInt8:
        """Map pixel values, uint8 (H, W), to class ids and `IGNORED`, a new uint8 (H, W)."""
        labels: UInt8 = np.take(self.table, mask)
        return labels


def read_label_map(path: Path, num_classes: int) -> LabelMap:
    """Read a label map from a JSON file. Raises DataError."""
    return parse_label_map(read_file(path, MAX_BYTES), num_classes, printable(path))


def parse_label_map(source: bytes | str | dict[str, Any], num_classes: int, name: str) -> LabelMap:
    """Parse a label map from JSON text or a JSON object; `name` is what messages call it, such as its file.

    255 is ignored under scale 1, and under ``map`` unless listed; under a greater scale it is class floor(255 / scale),
    or ignored if there is no such class. Raises DataError.
    """
    obj = dict(source) if isinstance(source, dict) else _load(source, name)
    given = parse_names(obj.pop(_NAMES), num_classes, f"{name}: {_NAMES!r}") if _NAMES in obj else None
    obj = obj or DEFAULT if given else obj
    unknown = sorted(obj.keys() - _BUILDERS.keys())
    if unknown:
        raise DataError(f"{name}: unknown key {unknown[0]!r:.100}.", _FORMS)
    if len(obj) != 1:
        raise DataError(f"{name}: has {' and '.join(map(repr, obj)) or 'no key'} instead of exactly one form.", _FORMS)
    return replace(_BUILDERS[next(iter(obj))](obj, num_classes, name), given=given, name=name)


def _from_scale(obj: dict[str, Any], num_classes: int, name: str) -> LabelMap:
    scale = _number(obj["scale"])
    if not 1 <= scale <= 255:
        raise DataError(
            f"{name}: 'scale' is {obj['scale']!r:.100}, not a number from 1 to 255.", "Pixel values are divided by it."
        )
    classes = np.array([math.floor(value / scale) for value in range(256)])
    excess = classes >= num_classes
    table = np.where(excess, IGNORED, classes).astype(np.uint8)
    invalid = excess.copy()
    invalid[IGNORED] = False
    spread = frozenset() if scale == 1 else FEW_BITS
    return LabelMap(table, np.zeros(256, np.bool_), invalid, num_classes, obj, spread=spread)


def _from_map(obj: dict[str, Any], num_classes: int, name: str) -> LabelMap:
    table = np.full(256, IGNORED, np.uint8)
    unlisted = np.ones(256, np.bool_)
    for class_id, key, entry in _classes(obj, "map", num_classes, name):
        value = byte(entry)
        if value is None or not unlisted[value]:
            raise DataError(
                f"{name}: the value {entry!r:.100} of key {key!r} of 'map' is not a pixel value or is repeated.",
                "Pixel values are 0 to 255, each listed for one class only.",
            )
        table[value], unlisted[value] = class_id, False
    listed = set(np.flatnonzero(~unlisted).tolist())
    if table[IGNORED] == IGNORED:  # the same as if it were not listed
        listed.discard(IGNORED)
    unlisted[IGNORED] = False
    return LabelMap(table, unlisted, np.zeros(256, np.bool_), num_classes, obj, spread=_spread_under(listed))


def _spread_under(listed: Set[int]) -> frozenset[int]:
    """The bit depths whose grey is spread to 8 bits: all but those whose values are listed as stored, not as spread."""
    stored = (bits for bits in FEW_BITS if not listed.isdisjoint(range(1, 1 << bits)))
    return FEW_BITS - {bits for bits in stored if listed.isdisjoint(range(grey_step(bits), 256, grey_step(bits)))}


def _from_colors(obj: dict[str, Any], num_classes: int, name: str) -> LabelMap:
    colors: dict[int, int] = {}
    for class_id, key, entry in _classes(obj, "colors", num_classes, name):
        for text in entry if isinstance(entry, list) and entry else [entry]:
            color = _color(text)
            if color is None or color in colors:
                raise DataError(
                    f"{name}: {text!r:.100} of key {key!r} of 'colors' is not a colour or is repeated.",
                    "Write colours like '#2ca02c', each listed for one class only.",
                )
            colors[color] = class_id
    table = np.where(np.arange(256) < num_classes, np.arange(256), IGNORED).astype(np.uint8)
    unlisted = np.arange(256) == UNLISTED_COLOR
    return LabelMap(table, unlisted, np.zeros(256, np.bool_), num_classes, obj, colors, FEW_BITS)


_BUILDERS: dict[str, Callable[[dict[str, Any], int, str], LabelMap]] = {
    "scale": _from_scale,
    "map": _from_map,
    "colors": _from_colors,
}


def _classes(obj: dict[str, Any], form: str, num_classes: int, name: str) -> Iterator[tuple[int, str, Any]]:
    """Class id, key and value of each entry. Raises DataError for a key that is no class, or repeats one."""
    entries = obj[form]
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{name}: {form!r} is not an object with at least one class.", _FORMS)
    seen = set()
    for key, entry in entries.items():
        class_id = byte(key)
        if class_id is None or num_classes <= class_id != IGNORED or class_id in seen:
            raise DataError(
                f"{name}: key {key!r:.100} of {form!r} is not a class or is repeated.",
                f"Classes are 0 to {num_classes - 1} (num_classes is {num_classes}); 255 means ignored.",
            )
        seen.add(class_id)
        yield class_id, key, entry


def _load(text: bytes | str, name: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise DataError(f"{name}: larger than {MAX_BYTES} bytes.", _FORMS)
    try:
        obj = parse_object(text)
        for value in obj.values():
            require_unique(value)
    except ValueError as error:
        raise DataError(f"{name}: {error}.", _FORMS) from error
    return obj


def _number(value: Any) -> float:
    """Parse a JSON number or a string of one; NaN for anything else."""
    try:
        return float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _color(value: Any) -> int | None:
    """Parse a colour; None for anything but the text of one."""
    try:
        return parse_color(value) if isinstance(value, str) else None
    except ValueError:
        return None
