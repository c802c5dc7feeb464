"""A contact sheet of annotated images: each beside its classes, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import model_palette
from semseg.files import replacing
from semseg.reporting.html import embedded
from semseg.reporting.html.render import environment, hex_colours
from semseg.reporting.html.samples import sample
from semseg.types import IGNORED, Classes, UInt8

_TEMPLATE = "sheet.html.jinja"


@dataclass(frozen=True)
class Tile:
    """An image on the sheet. views: data URIs by their captions; width, height: of the copies, in pixels.

    present: the ids of its classes; classes: what they are called.
    """

    name: str
    views: Mapping[str, str]
    width: int
    height: int
    present: tuple[int, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """The content of a sheet. total: the number of images that it was chosen from; problems: why others are missing."""

    title: str
    classes: Classes
    tiles: tuple[Tile, ...]
    total: int
    problems: tuple[str, ...] = ()


def tile(name: str, image: UInt8, labels: UInt8, classes: Classes) -> Tile:
    """Returns the tile of an image, uint8 (H, W, 3), with its labels, uint8 (H, W), as small copies."""
    small = sample(name, image, labels, labels)
    colours = model_palette(classes)
    height, width = small.labels.shape
    present = tuple(int(number) for number in np.unique(labels) if number != IGNORED)
    views = {
        "Image": embedded.photo(small.image),
        "Overlay": embedded.photo(overlay(small.image, small.labels, colours, 0.6)),
        "Classes": embedded.labels(small.labels, colours),
    }
    return Tile(name, views, width, height, present, tuple(classes.titles[number] for number in present))


def write_sheet(sheet: Sheet, path: Path) -> None:
    """Writes the sheet atomically; its folder must exist. Every name in it is escaped. Raises OSError."""
    seen = sorted({number for one in sheet.tiles for number in one.present})
    text = (
        environment()
        .get_template(_TEMPLATE)
        .render(sheet=sheet, titles=sheet.classes.titles, colours=hex_colours(sheet.classes), seen=seen)
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
