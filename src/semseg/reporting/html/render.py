"""Draws a report and writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from semseg.codecs.colors import color_name
from semseg.codecs.palettes import model_palette
from semseg.data.report import Report, SplitReport
from semseg.evaluation.confusion import ConfusionMatrix
from semseg.evaluation.measures import measures
from semseg.files import replacing
from semseg.reporting.html import charts, embedded
from semseg.reporting.html.confusions import TABLE_CLASSES, normalised, top_confusions
from semseg.reporting.html.content import ReportContent
from semseg.reporting.html.samples import Sample
from semseg.types import IGNORED, Classes, UInt8

FILE = "report.html"
_TEMPLATE = "report.html.jinja"


def write_report(content: ReportContent, path: Path) -> None:
    """Writes the report atomically; its folder must exist. Raises DiskFullError and OSError."""
    text = render(content)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def render(content: ReportContent) -> str:
    """Returns the report as one HTML document, which loads nothing; every name in it is escaped."""
    palette = model_palette(content.classes)
    colours = hex_colours(content.classes)
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            content=content,
            titles=content.classes.titles,
            colours=colours,
            charts=charts.training_charts(content.epochs) if content.epochs else [],
            frame=charts,
            best=charts.best_epoch(content.epochs) if content.epochs else None,
            class_rows=_class_rows(content, colours),
            confusion=_confusion(content.matrix) if content.matrix else None,
            groups=[(group, [_tiles(found, palette) for found in group.samples]) for group in content.samples],
            legend=_legend(content),
            wrong=embedded.WRONG,
            splits=[_split(split) for split in content.data.splits] if content.data else [],
        )
    )


def hex_colours(classes: Classes) -> list[str]:
    """Returns the colours of the 256 labels, such as `#2ca02c`."""
    return [color_name(int.from_bytes(colour.tobytes())) for colour in model_palette(classes)]


@cache
def environment() -> Environment:
    """Returns jinja2's environment of the templates in this folder, which escapes what it inserts."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    environment.filters["percent"] = _percent
    return environment


def _shown(value: float | int | None) -> str:
    """A number for people: whole ones in groups of three digits, others with four digits after the point."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"


def _percent(share: float) -> str:
    """A share as a percentage with one digit after the point; 0 means none and 100 all."""
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return "< 0.1" if share < 0.0005 else "> 99.9" if share >= 0.9995 else f"{100 * share:.1f}"


@dataclass(frozen=True)
class _ClassRow:
    """The numbers of one class, each 0 to 1 or None, by the heading of their column."""

    title: str
    colour: str
    values: Mapping[str, float | None]


def _class_rows(content: ReportContent, colours: Sequence[str]) -> list[_ClassRow]:
    columns: dict[str, Sequence[float | None]] = {}
    if content.matrix:
        found = measures(content.matrix).classes
        columns["IoU"] = content.matrix.iou()
        columns["Precision"] = [one.precision for one in found]
        columns["Recall"] = [one.recall for one in found]
    columns |= content.class_columns
    columns |= {f"Share of {split}": shares for split, shares in content.shares.items()}
    if not columns:
        return []
    return [
        _ClassRow(title, colours[number], {name: values[number] for name, values in columns.items()})
        for number, title in enumerate(content.classes.titles)
    ]


def _confusion(matrix: ConfusionMatrix) -> dict[str, Any]:
    shares = normalised(matrix)
    small = matrix.num_classes <= TABLE_CLASSES
    return {
        "rows": shares.tolist() if small else [],
        "image": "" if small else embedded.heat_map(shares),
        "classes": matrix.num_classes,
        "ticks": range(0, matrix.num_classes, 10 if matrix.num_classes <= 100 else 20),
        "top": top_confusions(matrix, 10 if small else 20),
        "pixels": int(matrix.counts.sum()),
    }


@dataclass(frozen=True)
class _Tiles:
    """An image of the report, as data URIs of its four views by their captions."""

    name: str
    wrong: float
    views: Mapping[str, str]
    width: int
    height: int


def _tiles(found: Sample, colours: UInt8) -> _Tiles:
    height, width = found.labels.shape
    views = {
        "Image": embedded.photo(found.image),
        "Truth": embedded.labels(found.labels, colours),
        "Prediction": embedded.labels(found.predicted, colours),
        "Errors": embedded.errors(found),
    }
    return _Tiles(found.name, found.wrong, views, width, height)


def _legend(content: ReportContent) -> list[int]:
    """The ids of the classes that the report's images show, in the annotations or predicted."""
    seen = np.zeros(256, np.bool_)
    for group in content.samples:
        for found in group.samples:
            seen[found.labels] = seen[found.predicted] = True
    seen[IGNORED] = False
    return [int(number) for number in np.flatnonzero(seen[: len(content.classes)])]


def _split(split: SplitReport) -> dict[str, Any]:
    return {
        "name": split.name,
        "pairs": split.pairs,
        "sizes": [f"{width} x {height}" for width, height in split.extreme_sizes()],
        "ignored": (split.ignored + split.unlisted) / max(int(split.values.sum()), 1),
        "kinds": ", ".join(split.image_kinds),
    }


def split_shares(data: Report | None) -> dict[str, Sequence[float]]:
    """Returns the share of each class in the pixels of each split that has any, for `ReportContent.shares`."""
    if not data:
        return {}
    found = {split.name: split.shares() for split in data.splits}
    return {name: shares.tolist() for name, shares in found.items() if shares is not None}
