"""The table of class shares: a CSV file with a line for each image, which is whole at any moment."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from semseg.errors import UserError, one_line
from semseg.files import naming_full_disk, replacing

FILE = "class_shares.csv"
_DIGITS = 6
_OTHER_PLACE = "Name another folder with --out, or leave out --skip-existing to replace the results."


class ShareTable:
    """Appends lines to the file, each at once: after a kill, the file has all lines but the last."""

    def __init__(self, folder: Path, class_names: Sequence[str], kept: Sequence[Sequence[str]] = ()) -> None:
        """Starts a new file with its heading. kept: lines of an earlier one. Raises DiskFullError and OSError."""
        self._folder = folder
        with replacing(folder / FILE) as temporary:
            temporary.write_bytes(b"".join(map(_line, [_heading(class_names), *kept])))
        self._file = (folder / FILE).open("ab", buffering=0)

    def __enter__(self) -> ShareTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, image: str, height: int, width: int, pixels: NDArray[np.int64]) -> None:
        """Adds an image. pixels: the number of each class, int64 (C,). Raises DiskFullError and OSError."""
        shares = (f"{number / (height * width):.{_DIGITS}f}" for number in pixels.tolist())
        line = _line([image, str(width), str(height), *shares])
        with naming_full_disk(self._folder):
            while line:  # of the line for which there is too little space, the system takes a part
                line = line[self._file.write(line) :]


def earlier_lines(folder: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the lines of an earlier file by image, empty without one; a line that a kill cut off is left out.

    Raises UserError if the file has other classes or is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    text = path.read_bytes().decode(errors="surrogateescape")
    try:
        heading, *lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))) or [[]]
    except csv.Error as error:
        raise UserError(f"{one_line(str(path))} is damaged: {error}.", _OTHER_PLACE) from error
    if heading != _heading(class_names):
        raise UserError(f"{one_line(str(path))} is not a table of the classes of this model.", _OTHER_PLACE)
    return {line[0]: line for line in lines if len(line) == len(heading)}


def _heading(class_names: Sequence[str]) -> list[str]:
    return ["image", "width", "height", *class_names]


def _line(fields: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(fields)  # what ends lines is what it quotes within fields
    line = text.getvalue().removesuffix("\r\n") + "\n"
    return line.encode(errors="surrogateescape")
