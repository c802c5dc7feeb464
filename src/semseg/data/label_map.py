"""Label maps: from the pixel values of a mask to class ids (R17, R21, R28 to R34).

{"scale": "3"}                         class = floor(pixel value / 3)
{"map": {"0": 5, "1": 0, "255": 9}}    key = class (255: ignored), value = pixel value
"""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semseg.data.files import printable, read_file
from semseg.errors import DataError
from semseg.types import IGNORED, UInt8

logger = logging.getLogger("semseg")

DEFAULT: dict[str, Any] = {"scale": 1}
_MAX_BYTES = 1_000_000
_FORMS = 'Write {"scale": 1} or {"map": {"0": 5, "1": 0}} (class: pixel value).'
_COMMON_NAME = "label_map.json"
_CHANNELS = ("train", "validation")


@dataclass(frozen=True)
class LabelMap:
    """What each of the 256 pixel values means.

    table: uint8 (256,), class id or `IGNORED`.
    unlisted: bool (256,), values no map lists; they are ignored, and worth a warning.
    invalid: bool (256,), values that would be a class of `num_classes` or above; `table` ignores them.
    source: the JSON as given.
    """

    table: UInt8
    unlisted: NDArray[np.bool_]
    invalid: NDArray[np.bool_]
    num_classes: int
    source: dict[str, Any]

    def apply(self, mask: UInt8) -> UInt8:
        """Pixel values uint8 (H, W) to class ids and `IGNORED`: a new uint8 (H, W)."""
        labels: UInt8 = np.take(self.table, mask)
        return labels


def find_label_map(channel: str, annotation: Path, label_map: Path | None, num_classes: int) -> LabelMap:
    """The label map of ``train`` or ``validation``.

    Looked for in this order: ``<channel>_label_map.json`` and ``label_map.json`` in the directory `label_map` of
    the channel of that name (None: not given), ``label_map.json`` in the directory `annotation` (R21, R22, R34).
    Without one the default, scale 1, holds, and a warning says so.

    Raises DataError for a map that is wrong, and for a `label_map` directory without a name we know.
    """
    candidates = [annotation / _COMMON_NAME]
    if label_map is not None:
        _require_known_name(label_map)
        candidates = [label_map / f"{channel}_{_COMMON_NAME}", label_map / _COMMON_NAME, *candidates]
    found = [path for path in candidates if path.is_file()]
    if not found:
        _warn_of_default(channel, label_map)
        return parse_label_map(DEFAULT, num_classes, f"the default label map of {channel}")
    for path in found[1:]:
        logger.warning("%s is not used for %s: %s is.", path, channel, found[0])
    return parse_label_map(read_file(found[0], _MAX_BYTES), num_classes, printable(found[0]))


def parse_label_map(source: bytes | str | dict[str, Any], num_classes: int, name: str) -> LabelMap:
    """A label map from JSON text or from the object it holds; `name` is the file's, for errors.

    255 is ignored under scale 1, and under ``map`` unless listed; under a greater scale it is floor(255 / scale),
    ignored if no class. Raises DataError.
    """
    obj = source if isinstance(source, dict) else _load(source, name)
    unknown = sorted(obj.keys() - {"scale", "map"})
    if unknown:
        raise DataError(f"{name}: unknown key {unknown[0]!r}.", _FORMS)
    if len(obj) != 1:
        raise DataError(f"{name}: has {'both' if obj else 'neither'} 'scale' and 'map'.", _FORMS)
    build = _from_scale if "scale" in obj else _from_map
    return build(obj, num_classes, name)


def _from_scale(obj: dict[str, Any], num_classes: int, name: str) -> LabelMap:
    scale = _number(obj["scale"])
    if not 1 <= scale <= 255:
        raise DataError(
            f"{name}: 'scale' is {obj['scale']!r}, not a number from 1 to 255.", "Pixel values are divided by it."
        )
    classes = np.array([math.floor(value / scale) for value in range(256)])
    excess = classes >= num_classes
    table = np.where(excess, IGNORED, classes).astype(np.uint8)
    invalid = excess.copy()
    invalid[IGNORED] = False
    return LabelMap(table, np.zeros(256, np.bool_), invalid, num_classes, obj)


def _from_map(obj: dict[str, Any], num_classes: int, name: str) -> LabelMap:
    mapping = obj["map"]
    if not isinstance(mapping, dict) or not mapping:
        raise DataError(f"{name}: 'map' is not an object with at least one class.", _FORMS)
    table = np.full(256, IGNORED, np.uint8)
    unlisted = np.ones(256, np.bool_)
    classes = set()
    for key, entry in mapping.items():
        class_id, value = _byte(key), _byte(entry)
        if class_id is None or num_classes <= class_id != IGNORED or class_id in classes:
            raise DataError(
                f"{name}: key {key!r} of 'map' is not a class, or given twice.",
                f"Classes are 0 to {num_classes - 1} (num_classes is {num_classes}); 255 means ignored.",
            )
        if value is None or not unlisted[value]:
            raise DataError(
                f"{name}: the value {entry!r} of key {key!r} of 'map' is not a pixel value, or given twice.",
                "Pixel values are 0 to 255, each of one class.",
            )
        classes.add(class_id)
        table[value], unlisted[value] = class_id, False
    unlisted[IGNORED] = False
    return LabelMap(table, unlisted, np.zeros(256, np.bool_), num_classes, obj)


def _load(text: bytes | str, name: str) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        obj = dict(pairs)
        if len(obj) < len(pairs):
            keys = [key for key, _ in pairs]
            raise DataError(f"{name}: key {next(key for key in keys if keys.count(key) > 1)!r} is given twice.", _FORMS)
        return obj

    if len(text) > _MAX_BYTES:
        raise DataError(f"{name}: larger than {_MAX_BYTES} bytes.", _FORMS)
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        obj = json.loads(decoded, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not JSON: {error}.", _FORMS) from error
    if not isinstance(obj, dict):
        raise DataError(f"{name}: not a JSON object.", _FORMS)
    return obj


def _number(value: Any) -> float:
    """A JSON number or a string of one; NaN for anything else."""
    try:
        return float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _byte(value: Any) -> int | None:
    """An integer from 0 to 255, or a string of one; None for anything else."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch("[0-9]{1,3}", text) and int(text) <= 255 else None


def _require_known_name(label_map: Path) -> None:
    known = [f"{channel}_{_COMMON_NAME}" for channel in _CHANNELS] + [_COMMON_NAME]
    if any((label_map / name).is_file() for name in known):
        return
    found = [printable(path) for path in sorted(label_map.iterdir())] if label_map.is_dir() else []
    holds = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "") or "nothing"
    raise DataError(
        f"The label_map channel holds no label map, but {holds}.", f"Name the files {' and '.join(known[:2])}."
    )


def _warn_of_default(channel: str, label_map: Path | None) -> None:
    if label_map is None:
        logger.warning("label maps not provided, using defaults.")
    else:
        logger.warning("the label_map channel holds no map for %s, using the default %s.", channel, DEFAULT)
