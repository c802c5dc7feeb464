"""Wraps text at the width of a terminal, between words, so that paths and commands in it can be copied."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import TextIO

_COMMAND = re.compile("`[^`]+`")
_BLANK_OF_COMMAND = "\0"


def fitted(text: str, stream: TextIO) -> str:
    """Returns a text as a stream is to get it: at a terminal in lines of its width, elsewhere unchanged.

    A word that is wider stays whole, as does a command in backticks. A line that goes on is indented.
    """
    if not stream.isatty():
        return text
    width = _width(stream)
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def say(text: str) -> None:
    """Prints a message on stderr, as it fits there."""
    print(fitted(text, sys.stderr), file=sys.stderr, flush=True)


def _width(terminal: TextIO) -> int:
    """The columns of a terminal; where it does not say, those of $COLUMNS or 80."""
    try:
        columns = os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        columns = 0
    return columns or shutil.get_terminal_size().columns


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))]
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", _BLANK_OF_COMMAND), line)
    lines = textwrap.wrap(
        whole,
        width,
        subsequent_indent=f"{indent}  ",
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace(_BLANK_OF_COMMAND, " ")
