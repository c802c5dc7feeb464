from __future__ import annotations

import io
import os
import pty
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from semseg.reporting.wrapping import fitted

LONG = (
    "The images in /home/me/data-sets/photographs-of-streets/2024 lack masks. Give --train-annotation, or run "
    "`semseg check --num-classes 4 --train photographs --train-annotation masks` first."
)


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A pseudo-terminal of 40 columns."""
    person, process = pty.openpty()
    termios.tcsetwinsize(process, (24, 40))
    with os.fdopen(process, "w") as file:
        yield file
    os.close(person)


def test_elsewhere_a_text_stays_as_it_is() -> None:
    assert fitted(LONG, io.StringIO()) == LONG


def test_lines_break_between_words_and_never_in_paths_options_or_commands(terminal: TextIO) -> None:
    lines = fitted(LONG, terminal).split("\n")
    assert lines == [
        "The images in",
        "  /home/me/data-sets/photographs-of-streets/2024",
        "  lack masks. Give --train-annotation,",
        "  or run",
        "  `semseg check --num-classes 4 --train photographs --train-annotation masks`",
        "  first.",
    ]
    assert " ".join(line.strip() for line in lines) == LONG


def test_lines_of_a_text_keep_their_indents_and_blanks(terminal: TextIO) -> None:
    text = "epoch 1/2  loss 1.2346  mIOU 0.2500\n\n    train/0001.png has the values 7, 9 and 12"
    assert fitted(text, terminal) == (
        "epoch 1/2  loss 1.2346  mIOU 0.2500\n\n    train/0001.png has the values 7, 9\n      and 12"
    )


def test_wide_characters_and_marks_count_as_they_are_drawn(terminal: TextIO) -> None:
    wide, marked = "道路 " * 16, "cafe\u0301 " * 16
    assert fitted(wide.rstrip(), terminal).split("\n") == ["道路 " * 7 + "道路", "  " + "道路 " * 6 + "道路", "  道路"]
    assert fitted(marked.rstrip(), terminal).split("\n")[0] == "cafe\u0301 " * 7 + "cafe\u0301"


@pytest.mark.parametrize(("columns", "width"), [("50", 50), ("", 80)])
def test_a_terminal_that_does_not_know_its_width_has_that_of_the_environment_or_80(
    columns: str, width: int, terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    termios.tcsetwinsize(terminal.fileno(), (0, 0))
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)
    lines = fitted("word " * 100, terminal).split("\n")
    assert max(map(len, lines)) in range(width - 4, width + 1)
