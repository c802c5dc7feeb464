from __future__ import annotations

import unicodedata

import pytest

from semseg.reporting.tables import table
from semseg.reporting.width import clipped, padded, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("scratch", 7),
        ("Öl", 2),
        (unicodedata.normalize("NFD", "Öl"), 2),
        ("道路", 4),
        ("ﾄﾗｯｸ", 4),  # half-width katakana
        ("한국", 4),
        (unicodedata.normalize("NFD", "한국"), 4),
        ("นี่", 1),  # a letter with two marks
        ("é\u0323\u0301", 1),
        ("a\u200db", 2),
        ("🚗", 2),
    ],
)
def test_columns_are_counted_as_a_terminal_draws_them(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(padded(text, 12, "<")) == width(padded(text, 12, ">")) == 12
    assert padded(text, 12, "<").startswith(text)
    assert padded(text, 12, ">").endswith(text)


@pytest.mark.parametrize(
    ("text", "columns", "kept"),
    [
        ("background", 4, "back"),
        ("道路標識", 5, "道路"),
        ("道路", 4, "道路"),
        ("ee\u0323\u0308f", 2, "eẹ\u0308"),
        ("a", 0, ""),
    ],
)
def test_a_text_is_clipped_by_columns_and_keeps_the_marks_of_its_last_character(
    text: str, columns: int, kept: str
) -> None:
    assert clipped(text, columns) == kept


def test_the_columns_of_a_table_are_aligned_in_every_script() -> None:
    rows = [["class", "IoU", "pixels"], ["  0 道路", "0.5000", "12"], ["  1 cafe\u0301", "0.2500", "1,234"]]
    assert table(rows, "<>>").split("\n") == [
        "class        IoU  pixels",
        "  0 道路  0.5000      12",
        "  1 cafe\u0301  0.2500   1,234",
    ]
