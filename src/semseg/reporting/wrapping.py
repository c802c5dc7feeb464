"""Wraps text at the width of a terminal, between words, so that paths and commands in it can be copied."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TextIO

from semseg.reporting.width import width

_WORD = re.compile("( *)((?:`[^`]+`|[^ ])+)")
"""A word or a command in backticks, with the punctuation at its ends, and the blanks before it."""


def fitted(text: str, stream: TextIO) -> str:
    """Returns a text as a stream is to get it: at a terminal in lines of its width, elsewhere unchanged.

    A word that is wider stays whole, as does a command in backticks. A line that goes on is indented.
    """
    if not stream.isatty():
        return text
    columns = _columns(stream)
    return "\n".join(_wrapped(line, columns) for line in text.split("\n"))


def say(text: str) -> None:
    """Prints a message on stderr, as it fits there."""
    print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def _columns(terminal: TextIO) -> int:
    """The columns of a terminal; where it does not say, those of $COLUMNS or 80."""
    try:
        columns = os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        columns = 0
    return columns or shutil.get_terminal_size().columns


def _wrapped(line: str, columns: int) -> str:
    if width(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))]
    lines, last = [], ""
    for blanks, word in _WORD.findall(line):
        if last and width(f"{last}{blanks}{word}") > columns:
            lines.append(last)
            last = f"{indent}  {word}"
        else:
            last += f"{blanks}{word}"
    return "\n".join([*lines, last])
