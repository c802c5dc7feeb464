"""`semseg browse`: a contact sheet of annotated images, to look at a data set before it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from semseg.data.labelled_folder import LabelledFolder
from semseg.data.pairs import evenly
from semseg.errors import DataError, UserError, os_reason
from semseg.files import require_writable
from semseg.reporting.html.sheet import Sheet, Tile, tile, write_sheet


def browse(folder: LabelledFolder, title: str, count: int, path: Path, done: Callable[[], object]) -> Sheet:
    """Writes a sheet of at most `count` of a folder's pairs, evenly spaced, and returns it. done: called after each.

    A pair that cannot be read is named on the sheet. Raises UserError if none can be, or, before any is read, if the
    sheet cannot be written.
    """
    with _writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        require_writable(path)
    tiles: list[Tile] = []
    problems: list[str] = []
    for pair in evenly(folder.pairs, count):
        try:
            image, labels, name = folder.sampler.whole(pair)
            tiles.append(tile(name, image, labels, folder.classes))
        except DataError as error:
            problems.append(str(error))
        done()
    if not tiles:
        raise UserError(f"Not one image can be shown. {problems[0]}")
    sheet = Sheet(title, folder.classes, tuple(tiles), len(folder.pairs), tuple(problems))
    with _writing():
        write_sheet(sheet, path)
    return sheet


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"The sheet cannot be written: {os_reason(error)}.", "Name another file with --out.") from error
