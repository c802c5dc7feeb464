"""The kinds of environment variables that hold settings. An empty variable counts as not set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.model_dir import BASE, NONE
from semseg.errors import UserError
from semseg.inference.scaling import CHOICES, FACTOR, MODEL

ANY_ORIGIN = "*"
_ORIGIN = r"https?://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?"
"""Scheme, host and port, as browsers send them (RFC 6454): no path, not even a slash."""


@dataclass(frozen=True)
class Number:
    """An environment variable that holds a whole number."""

    name: str
    default: int
    lowest: int
    highest: int
    meaning: str

    def read(self, environ: Mapping[str, str]) -> int:
        """The variable's value or its default; raises UserError, naming the variable, if the value is out of range."""
        text = environ.get(self.name) or str(self.default)
        number = int(text) if text.isdecimal() and len(text) < 20 else -1
        if number != self.default and not self.lowest <= number <= self.highest:
            raise UserError(
                f"{self.name} is {text[:50]!r}, not a whole number from {self.lowest} to {self.highest}.",
                f"It is {self.meaning}; unset, it is {self.default}.",
            )
        return number


@dataclass(frozen=True)
class Choice:
    """An environment variable that holds one of several words, by default the first."""

    name: str
    options: tuple[str, ...]
    meaning: str

    @property
    def default(self) -> str:
        """The value when the variable is not set."""
        return self.options[0]

    def read(self, environ: Mapping[str, str]) -> str:
        """The variable's value or its default; raises UserError, naming the variable, if it is none of the words."""
        text = environ.get(self.name) or self.default
        if text not in self.options:
            raise UserError(
                f"{self.name} is {text[:50]!r}, not one of {', '.join(self.options)}.",
                f"It is {self.meaning}; unset, it is {self.default}.",
            )
        return text


@dataclass(frozen=True)
class Folder:
    """An environment variable that holds a folder's absolute path; none by default."""

    name: str
    meaning: str
    default = ""

    def read(self, environ: Mapping[str, str]) -> Path | None:
        """The folder, which need not exist; raises UserError, naming the variable, for a relative path."""
        text = environ.get(self.name, "")
        if text and not text.startswith("/"):
            raise UserError(f"{self.name} is {text[:50]!r}, not an absolute path.", f"It is {self.meaning}.")
        return Path(text) if text else None


@dataclass(frozen=True)
class ScaleText:
    """An environment variable that holds a word or a factor for `scaling.scale_of`."""

    name: str
    meaning: str
    default = MODEL

    def read(self, environ: Mapping[str, str]) -> str:
        """The variable's value or its default; raises UserError, naming the variable, if it is neither of those."""
        text = environ.get(self.name) or self.default
        if text not in (MODEL, NONE, BASE) and not re.fullmatch(FACTOR, text):
            raise UserError(f"{self.name} is {text[:50]!r}.", f"Give {MODEL}, {CHOICES}; unset, it is {self.default}.")
        return text


@dataclass(frozen=True)
class Origins:
    """An environment variable that holds the origins of web pages, separated by commas; none by default."""

    name: str
    meaning: str
    default = ""

    def read(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """The origins in lower case, or `ANY_ORIGIN` alone; raises UserError, naming the variable, for others."""
        value = environ.get(self.name, "")
        origins = tuple(text.strip().lower() for text in value.split(",") if text.strip())
        if origins != (ANY_ORIGIN,):
            for origin in origins:
                if not re.fullmatch(_ORIGIN, origin):
                    raise UserError(
                        f"{self.name} is {value[:50]!r}, in which {origin[:50]!r} is not the origin of a web page.",
                        f"Give origins such as https://example.com, separated by commas, or {ANY_ORIGIN} alone.",
                    )
        return origins


def meaning(variable: Number | Choice | Folder | ScaleText | Origins) -> str:
    """What a variable is, with the values that it may have, in Markdown."""
    match variable:
        case Number():
            return f"{variable.meaning}; {variable.lowest} to {variable.highest}"
        case Choice():
            return f"{variable.meaning}: {', '.join(f'`{option}`' for option in variable.options)}"
        case Folder() | ScaleText() | Origins():
            return variable.meaning
