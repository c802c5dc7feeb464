"""The parser of every command: argparse with suggestions for misspelled words, and this project's exit codes."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from semseg.errors import UserError


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
        if misspelled := self._unknown_option(words or ()):  # before argparse asks for the option that it stands for
            self.error(self._about(misspelled))
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(self._about(unknown[0]))
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

    def _about(self, word: str) -> str:
        name = word.partition("=")[0]
        if not name.startswith("-"):
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
            listed = f"it must be {' or '.join(words)}"
            raise argparse.ArgumentTypeError(f"{text!r} is not valid: {listed}.{did_you_mean(text, words)}")
        return text

    return word_of


def _dashed(words: Iterable[str]) -> list[str]:
    """Replace underscores in the names of options; words after ``--`` are none."""
    changed, options = [], True
    for word in words:
        options = options and word != "--"
        name, equals, value = word.partition("=")
        changed.append(f"{name.replace('_', '-')}{equals}{value}" if options and name.startswith("--") else word)
    return changed
