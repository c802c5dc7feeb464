"""The table of class shares that `semseg predict` writes."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from semseg.errors import DiskFullError, UserError
from semseg.offline.shares import FILE, ShareTable, earlier_lines

CLASSES = ("sky", 'a "road", wet')
PIXELS = np.array([1, 3])


def written(folder: Path) -> list[list[str]]:
    with (folder / FILE).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    "name", ["a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", "a\udcffb.png", "Straße 道.png", ' ="1"']
)
def test_any_name_of_a_file_is_read_again(tmp_path: Path, name: str) -> None:
    with ShareTable(tmp_path, CLASSES) as table:
        table.add(name, 2, 2, PIXELS)
        table.add("last", 2, 2, PIXELS)
    lines = {found: [found, "2", "2", "0.250000", "0.750000"] for found in (name, "last")}
    assert written(tmp_path) == [["image", "width", "height", *CLASSES], *lines.values()]
    assert earlier_lines(tmp_path, CLASSES) == lines


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("ab") as full, ShareTable(tmp_path, CLASSES) as table:
        os.dup2(full.fileno(), table._file.fileno())  # the system answers as on a full disk
        with pytest.raises(DiskFullError, match=f"no space is left in {tmp_path}"):
            table.add("a.png", 2, 2, PIXELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'image,"' + b"x" * 200_000 + b"\n", "is damaged: field larger than field limit"),
        (b"image,width,height,sky,sea\n", "is not a table of the classes of this model"),
        (b"image,width", "is not a table of the classes of this model"),
        (bytes(100) + b"\n", "class_shares.csv is "),
    ],
)
def test_a_table_that_cannot_be_continued_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=message):
        earlier_lines(tmp_path, CLASSES)
