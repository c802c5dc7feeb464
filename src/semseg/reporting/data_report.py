"""Writes the result of the data check as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from semseg.codecs.colors import color_name
from semseg.data.report import Report, SplitReport, class_weights, percent
from semseg.errors import DataError, count_of, one_line
from semseg.files import replacing, require_writable
from semseg.reporting.tables import table
from semseg.reporting.width import clipped

FILE = "data_report.json"
_PROBLEMS_WRITTEN = 1000
_SIZES_WRITTEN = 10
_KINDS_SHOWN = 4
_NAME_COLUMNS = 24

Key = TypeVar("Key")
_Size = tuple[int, int]


def as_text(report: Report) -> str:
    """Returns the report as text: tables of the splits and classes, the first 20 problems, suspicions, a verdict."""
    parts = [_split_table(report.splits), _class_table(report.splits)]
    if report.image_scale:
        parts.append(report.image_scale)
    if error := report.error():
        parts.append(str(error))
    if report.suspicions:
        parts.append("\n".join(["Suspicious:", *report.suspicions]))
    parts.append(f"{count_of(len(report.problems), 'error')}." if report.problems else "No errors.")
    return "\n\n".join(parts)


def as_json(report: Report) -> dict[str, Any]:
    """Returns the report as a JSON object, with at most 1000 problems.

    A class's share, 0 to 1, is its part of the pixels that are not ignored. Values without any data are null.
    The suggested label map fits all splits, and is repeated in each.
    """
    return {
        "errors": len(report.problems),
        "problems": [
            {"message": problem.message, "hint": problem.hint} for problem in report.problems[:_PROBLEMS_WRITTEN]
        ],
        "suspicions": list(report.suspicions),
        "splits": {split.name: _split_object(split, report.suggested_label_map) for split in report.splits},
    } | ({"image_scale": report.image_scale} if report.image_scale else {})


def write_report(report: Report, directory: Path) -> None:
    """Writes `data_report.json` atomically into the directory, which is created if necessary."""
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / FILE) as temporary:
        temporary.write_text(json.dumps(as_json(report), indent=1, allow_nan=False) + "\n")


def require_new(path: Path) -> None:
    """Raises DataError if `path` exists already, or its folder does not, and OSError if it cannot be written."""
    if path.exists() or path.is_symlink():
        raise DataError(f"{one_line(str(path))} exists already.", "Name a new file for the label map.")
    if not path.parent.is_dir():
        raise DataError(
            f"{one_line(str(path.parent))} is not a folder.", "Name a file in an existing folder for the label map."
        )
    require_writable(path)


def write_label_map(report: Report, path: Path) -> None:
    """Writes the suggested label map atomically. Raises DataError if there is none."""
    if report.suggested_label_map is None:
        raise DataError(
            f"There is no label map to write into {one_line(str(path))}.",
            "One is suggested if masks are stored as colours, of at most 254 classes, or if palettes contradict each "
            "other.",
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report.suggested_label_map, indent=1) + "\n")


def _split_object(split: SplitReport, suggested_label_map: dict[str, Any] | None) -> dict[str, Any]:
    smallest, largest = _extremes(split)
    return {
        "pairs": split.pairs,
        "label_map": split.label_map.source,
        "sizes": {
            "count": len(split.sizes),
            "smallest": _list(smallest),
            "largest": _list(largest),
            "most_frequent": [
                {"size": list(size), "pictures": number} for size, number in _by_number(split.sizes)[:_SIZES_WRITTEN]
            ],
        },
        "pictures": dict(_by_number(split.image_kinds)),
        "masks": dict(_by_number(split.mask_kinds)),
        "values": {str(value): int(pixels) for value, pixels in enumerate(split.values) if pixels},
        "classes": _class_objects(split),
        "ignored_pixels": split.ignored,
        "unlisted_pixels": split.unlisted,
        "invalid_pixels": split.invalid,
        "colored_masks": split.colored,
        "colors": {color_name(color): pixels for color, pixels in split.colors},
        "suggested_label_map": suggested_label_map,
    }


def _class_objects(split: SplitReport) -> list[dict[str, Any]]:
    shares, weights = split.shares(), class_weights(split)
    return [
        {
            "id": class_id,
            "name": split.classes.names[class_id],
            "color": None if (color := split.classes.colors[class_id]) is None else color_name(color),
            "pixels": int(split.class_pixels[class_id]),
            "share": None if shares is None else float(shares[class_id]),
            "pictures": int(split.masks_with_class[class_id]),
            "suggested_weight": float(weights[class_id]),
        }
        for class_id in range(len(split.class_pixels))
    ]


def _split_table(splits: Sequence[SplitReport]) -> str:
    """Returns a table of the files and pixels in each split, with a column for each."""
    rows = [
        ["", *(split.name for split in splits)],
        ["pairs", *(str(split.pairs) for split in splits)],
        ["smallest image", *(_size_text(_extremes(split)[0]) for split in splits)],
        ["largest image", *(_size_text(_extremes(split)[-1]) for split in splits)],
        [
            "images by size",
            *(_counts_text({_size_text(size): n for size, n in split.sizes.items()}) for split in splits),
        ],
        ["images by kind", *(_counts_text(split.image_kinds) for split in splits)],
        ["masks by kind", *(_counts_text(split.mask_kinds) for split in splits)],
        ["pixels ignored", *(_share_text(split.ignored, split) for split in splits)],
        ["pixels of unlisted values", *(_share_text(split.unlisted, split) for split in splits)],
        ["pixels of no class", *(_share_text(split.invalid, split) for split in splits)],
    ]
    return table(rows, "<" * len(rows[0]))


def _class_table(splits: Sequence[SplitReport]) -> str:
    """Returns a table of the classes: their share and images in each split, and a weight based on the first split."""
    heading, columns = ["class"], [_class_names(splits)]
    for split in splits:
        heading += [f"{split.name} %", "images"]
        columns += [_percents(split), [str(number) for number in split.masks_with_class]]
    heading.append("weight")
    columns.append([f"{weight:.3f}" if weight else "-" for weight in class_weights(splits[0])])
    return table([heading, *zip(*columns, strict=True)], "<" + ">" * (len(heading) - 1))


def _class_names(splits: Sequence[SplitReport]) -> list[str]:
    names = []
    for class_id in range(len(splits[0].class_pixels)):
        name = next(filter(None, (split.classes.names[class_id] for split in splits)), "")
        names.append(f"{class_id:3} {clipped(one_line(name), _NAME_COLUMNS)}".rstrip())
    return names


def _percents(split: SplitReport) -> list[str]:
    shares = split.shares()
    if shares is None:
        return ["-"] * len(split.class_pixels)
    return [f"{100 * share:.2f}" if share else "-" for share in shares]


def _share_text(pixels: int, split: SplitReport) -> str:
    return percent(pixels / int(split.values.sum())) if pixels else "-"


def _size_text(size: _Size | None) -> str:
    return f"{size[0]} x {size[1]}" if size else "-"


def _counts_text(counts: Mapping[str, int]) -> str:
    """Returns the most frequent kinds, such as ``JPEG RGB: 12, PNG P: 3, 2 more: 4``."""
    ordered = _by_number(counts)
    shown, rest = ordered[:_KINDS_SHOWN], ordered[_KINDS_SHOWN:]
    texts = [f"{kind}: {number}" for kind, number in shown]
    if rest:
        texts.append(f"{len(rest)} more: {sum(number for _, number in rest)}")
    return ", ".join(texts) or "-"


def _extremes(split: SplitReport) -> tuple[_Size | None, _Size | None]:
    """Returns the sizes with the fewest and the most pixels, None without images."""
    sizes = split.extreme_sizes()
    return (sizes[0], sizes[-1]) if sizes else (None, None)


def _list(size: _Size | None) -> list[int] | None:
    return list(size) if size else None


def _by_number(counts: Mapping[Key, int]) -> list[tuple[Key, int]]:
    """Returns the items, most frequent first."""
    return sorted(counts.items(), key=lambda item: -item[1])
