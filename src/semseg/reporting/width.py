"""The width of texts at a terminal, in columns.

Characters of Chinese, Japanese and Korean take two columns, as do most emoji; accents and other marks that are drawn
over the character before them take none.
"""

from __future__ import annotations

import unicodedata
from itertools import accumulate

_DRAWN_OVER = ("Mn", "Me", "Cf")
"""The Unicode categories of marks, and of characters that only change how others are drawn."""


def width(text: str) -> int:
    """Returns the columns that a text on one line takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, unicodedata.normalize("NFC", text)))


def padded(text: str, columns: int, side: str) -> str:
    """Returns a text with blanks up to this number of columns. side: `<` puts the text left, `>` puts it right."""
    blanks = " " * (columns - width(text))
    return f"{text}{blanks}" if side == "<" else f"{blanks}{text}"


def clipped(text: str, columns: int) -> str:
    """Returns the beginning of a text, of at most this number of columns."""
    composed = unicodedata.normalize("NFC", text)
    return composed[: sum(taken <= columns for taken in accumulate(map(_width, composed)))]


def _width(character: str) -> int:
    if unicodedata.category(character) in _DRAWN_OVER:
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
