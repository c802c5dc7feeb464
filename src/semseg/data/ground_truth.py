"""Reads the name and the colour of each class from the manifests of SageMaker Ground Truth.

They are in `internal-color-map`, in the metadata of each line of its output manifest. Its masks are palette PNGs whose
index is the class, but masks made from June to September 2020 have correct colours with wrong indices.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from semseg.codecs.colors import color_name, decode_indices, parse_color
from semseg.data.json_text import byte, require_unique
from semseg.data.label_map import LabelMap
from semseg.types import IGNORED, Classes, UInt8, is_class_name

logger = logging.getLogger("semseg")

_KEY = "internal-color-map"


@dataclass(frozen=True)
class ColorMap:
    """The classes of a manifest: (value in the masks, 0 to 255; name; colour, 0xRRGGBB) for each class."""

    classes: tuple[tuple[int, str, int], ...]
    _not_warned: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def read_values(self, data: bytes, name: str, spread: Container[int] = ()) -> UInt8:
        """Read the values of a mask: uint8 (H, W). Where palette indices contradict the colours, the colours win.

        spread: as for `masks.decode_mask`, for grey masks. The first mask that is corrected is logged with its `name`.
        Raises ImageError.
        """
        listed = {color: class_id for class_id, _, color in self.classes}
        values, corrected = decode_indices(data, listed, spread=spread)
        if corrected and self._not_warned.acquire(blocking=False):
            logger.warning(
                "%s: the palette's indices contradict the colours of %s, as in masks that Ground Truth made from June "
                "to September 2020: this mask and any other like it is read by its colours",
                name,
                _KEY,
            )
        return values

    def classes_under(self, label_map: LabelMap) -> Classes:
        """Names and colours of the classes after the label map is applied; if a class has several, the first."""
        names: dict[int, str] = {}
        colors: dict[int, int] = {}
        for value, name, color in self.classes:
            class_id = int(label_map.table[value]) if label_map.colors is None else label_map.colors.get(color, IGNORED)
            if class_id != IGNORED:
                names.setdefault(class_id, name)
                colors.setdefault(class_id, color)
        ids = range(label_map.num_classes)
        return Classes(tuple(map(names.get, ids)), tuple(map(colors.get, ids)))


class ColorMaps:
    """Joins the colour maps of a manifest's lines: each may list only some classes, but none contradict another."""

    def __init__(self) -> None:
        self._classes: dict[int, tuple[str, int]] = {}
        self._lines: dict[int, int] = {}
        self._of_color: dict[int, int] = {}

    def add(self, line: int, entry: Mapping[str, Any], attribute: str) -> bool:
        """Add the colour map of `attribute` from a line's object; returns whether there is one.

        Metadata without a colour map is ignored. Raises ValueError for a map that is malformed or contradicts an
        earlier line.
        """
        color_map = _find(entry, attribute)
        if color_map is None:
            return False
        if not isinstance(color_map, dict):
            raise ValueError(f"{_KEY} is not an object")
        require_unique(color_map)
        for key, described in color_map.items():
            require_unique(described)
            self._add_class(line, *_parse_class(key, described))
        return bool(color_map)

    def joined(self) -> ColorMap | None:
        """All classes of all lines; None if there are none."""
        classes = tuple((class_id, *self._classes[class_id]) for class_id in sorted(self._classes))
        return ColorMap(classes) if classes else None

    def _add_class(self, line: int, class_id: int, name: str, color: int) -> None:
        known = self._classes.setdefault(class_id, (name, color))
        first = self._lines.setdefault(class_id, line)
        if known != (name, color):
            raise ValueError(
                f"{_KEY} says class {class_id} is {_described(name, color)}, but line {first} says {_described(*known)}"
            )
        other = self._of_color.setdefault(color, class_id)
        if other != class_id:
            raise ValueError(
                f"{_KEY} gives {color_name(color)} to class {class_id}, but line {self._lines[other]} to class {other}"
            )


def _find(entry: Mapping[str, Any], attribute: str) -> Any:
    """The colour map of an attribute ``x-ref``, in x-ref-metadata (as written) or x-metadata (as documented)."""
    for key in (f"{attribute}-metadata", f"{attribute.removesuffix('-ref')}-metadata"):
        metadata = entry.get(key)
        if isinstance(metadata, dict) and metadata.get(_KEY) is not None:
            return metadata[_KEY]
    return None


def _parse_class(key: str, described: Any) -> tuple[int, str, int]:
    """Class id, name and colour. Raises ValueError."""
    class_id = byte(key)
    if class_id is None:
        raise ValueError(f"key {key!r:.100} of {_KEY} is not a class from 0 to 255")
    described = described if isinstance(described, dict) else {}
    name, color = described.get("class-name"), described.get("hex-color")
    if not isinstance(name, str) or not is_class_name(name):
        raise ValueError(f"class {key} of {_KEY} has no class-name of 1 to 256 characters on one line")
    if not isinstance(color, str):
        raise ValueError(f"class {key} of {_KEY} has no hex-color")
    return class_id, name, _parse_color(key, color)


def _parse_color(key: str, text: str) -> int:
    try:
        return parse_color(text)
    except ValueError as error:
        raise ValueError(f"hex-color of class {key} of {_KEY}: {error}".rstrip(".")) from error


def _described(name: str, color: int) -> str:
    return f"{name!r} in {color_name(color)}"
