"""The parser of every command: argparse with suggestions for misspelled words, and this project's exit codes."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from semseg.errors import UserError

_MAX_DIGITS = 9


class Parser(argparse.ArgumentParser):
    """Options may be written with underscores, as hyperparameters are: ``--crop_size``.

    They may not be shortened, so that a new option never changes what an old command line means. A command line that
    cannot be understood ends the process with the exit code of a user's error, 1; the message names the nearest word.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(  # type: ignore[override]  # argparse's overloads differ in the namespace alone
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the words; an option that this command does not have is an error, as is any word too many.

        This is the method that argparse calls for the words after a command's name.
        """
        words = None if args is None else _dashed(args)
        while words and words[-1] == "--":  # nothing follows that it could tell from options
            words.pop()
        if misspelled := self._unknown_option(words or ()):  # before argparse asks for the option that it stands for
            self.error(self._about(misspelled, is_option=True))
        if misread := self._misread(words or ()):
            self.error(misread)
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(self._about(next(word for word in unknown if word != "--"), is_option="--" not in (words or ())))
        return found, unknown

    def options(self) -> dict[str, list[str]]:
        """Return the words that an option takes, by the option; none where it takes others or no value."""
        found = {}
        for name, action in self._option_string_actions.items():
            words = str(action.metavar or "").split("|")
            found[name] = words if len(words) > 1 and not any(word.isupper() for word in words) else []
        return found

    def error(self, message: str) -> NoReturn:
        """Print the message, without the usage of dozens of options, and exit."""
        from semseg.reporting.wrapping import say

        say(f"{self.prog}: {message}\nSee {self.prog} --help.")
        self.exit(UserError.exit_code)

    def _unknown_option(self, words: Sequence[str]) -> str | None:
        """The first word that looks like an option and is none; None for a parser of commands, which have their own."""
        if self._subparsers is not None:
            return None
        names = (word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", words))
        known = self._option_string_actions
        return next((name for name in names if re.fullmatch(r"--[\w-]+", name) and name not in known), None)

    def _misread(self, words: Sequence[str]) -> str:
        """What to write for the first word with a dash that is no option, such as ``-L`` or ``-1.jpg``; else empty.

        Empty too for a parser of commands, as in `_unknown_option`, and where a number is meant.
        """
        known = self._option_string_actions
        read = [] if self._subparsers is not None else list(itertools.takewhile(lambda word: word != "--", words))
        for before, word in itertools.pairwise(["", *read]):
            if not re.match(r"-[^-\d.]", word) or word.partition("=")[0] in known:
                continue
            if before in known and known[before].nargs != 0:
                return f"{word!r} looks like an option: write {before}={word} if it is the value of {before}."
            if os.path.lexists(word):
                return f"{word!r} looks like an option: write ./{word} if it is the file."
        return ""

    def _about(self, word: str, is_option: bool) -> str:
        name = word.partition("=")[0]
        if not is_option or not name.startswith("-") or name == "-":
            return f"{word!r} is one word too many."
        return f"There is no option {name}.{did_you_mean(name, self._option_string_actions)}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a question, after a space, about the nearest of the words; empty if none is near."""
    nearest = difflib.get_close_matches(word[:100], words, n=1)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def one_of(*words: str) -> Callable[[str], str]:
    """Return a `type` for an argument that is one of the words."""

    def word_of(text: str) -> str:
        if text not in words:
            listed = f"it must be {', '.join(words[:-1])} or {words[-1]}"
            raise argparse.ArgumentTypeError(f"{text!r} is not valid: {listed}.{did_you_mean(text, words)}")
        return text

    return word_of


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a `type` for an argument that is an integer from `low`, not below 0, to `high`, or without an end."""

    def number_of(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
        if not plain or int(text) < low or (high is not None and int(text) > high):
            span = f"from {low} up" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text!r:.100} is not valid: it must be a number {span}.")
        return int(text)

    return number_of


def fraction(text: str) -> float:
    """The `type` of an argument that is a number between 0 and 1, both excluded."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r:.100} is not valid: it must be a number between 0 and 1, such as 0.2."
        )
    return found


def location(text: str) -> str:
    """The `type` of an argument that is a path or an address in S3; an empty one is often an unset variable."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: give a file or a folder.")
    return text


def local_path(text: str) -> Path:
    """The `type` of an argument that is a path on this machine, of something that may not be there yet."""
    if location(text).startswith("s3://"):
        raise argparse.ArgumentTypeError(
            f"{text!r:.300} is in S3: give a file or folder of this machine, to or from which `aws s3 cp` copies."
        )
    return Path(text)


def local_folder(text: str) -> Path:
    """The `type` of an argument that is a folder on this machine."""
    path = local_path(text)
    if not path.is_dir():
        fault = "is a file: give the folder that it is in" if path.exists() else "is not there: give a folder"
        raise argparse.ArgumentTypeError(f"{text!r:.300} {fault}.")
    return path


def _dashed(words: Iterable[str]) -> list[str]:
    """Replace underscores in the names of options; words after ``--`` are none."""
    changed, options = [], True
    for word in words:
        options = options and word != "--"
        name, equals, value = word.partition("=")
        changed.append(f"{name.replace('_', '-')}{equals}{value}" if options and name.startswith("--") else word)
    return changed
