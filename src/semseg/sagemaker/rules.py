"""The types of hyperparameters: each parses text from the platform into a validated value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from semseg.errors import HyperparameterError

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Rule:
    """What a hyperparameter accepts.

    name: as the user writes it, such as `crop_size` or `_workers`.
    default: its default as in the built-in algorithm's default-input.json; None if there is none.
    required: whether leaving it out is an error.
    parse: converts text to the value; raises ValueError or KeyError if invalid, OverflowError for too large an integer.
    expects: the end of the sentence "... which ...".
    doc: one line of documentation.
    kind: what a value is, in a word for command lines, such as `INTEGER`.
    options: the values that it accepts, if these are few.
    may_differ: whether a resumed training may have another value: the updates mean the same, though the engine and the
    precision round them differently.
    """

    name: str
    default: str | None
    required: bool
    parse: Callable[[str], Any]
    expects: str
    doc: str
    kind: str
    options: tuple[str, ...]
    may_differ: bool

    def __call__(self, text: str) -> Any:
        """Returns the validated value of a text. Raises HyperparameterError in the built-in algorithm's words."""
        try:
            return self.parse(text)
        except (ValueError, KeyError, OverflowError) as error:
            raise HyperparameterError(
                f"The value {text[:200]!r} is not valid for the '{self.name}' hyperparameter which {self.expects} "
                "(caused by ValidationError)",
                f"The largest integer is {_LARGEST}." if isinstance(error, OverflowError) else self._nearest(text),
                self.name,
                f"{text[:200]!r} is not valid: it {self.expects}.",
            ) from None

    def _nearest(self, text: str) -> str:
        nearest = difflib.get_close_matches(text[:200], self.options, n=1)
        return f"Did you mean '{nearest[0]}'?" if nearest else ""


def _declare(
    doc: str,
    name: str,
    default: str | None,
    parse: Callable[[str], Any],
    expects: str,
    kind: str,
    options: tuple[str, ...] = (),
    required: bool = False,
    may_differ: bool = False,
) -> Any:
    return field(metadata={"rule": Rule(name, default, required, parse, expects, doc, kind, options, may_differ)})


def choice(name: str, default: str, options: tuple[str, ...], doc: str, may_differ: bool = False) -> Any:
    """A dataclass field that holds one of the options."""

    def parse(text: str) -> str:
        if text not in options:
            raise ValueError
        return text

    listed = ", ".join(f"'{option}'" for option in options)
    expects = f"accepts one of the following: {listed}"
    return _declare(doc, name, default, parse, expects, "WORD", options, may_differ=may_differ)


def text(name: str, default: str | None, doc: str, may_differ: bool = False) -> Any:
    """A dataclass field that holds any text."""
    return _declare(doc, name, default, str, "accepts any text", "TEXT", may_differ=may_differ)


def boolean(name: str, default: str, doc: str, may_differ: bool = False) -> Any:
    """A dataclass field that holds a boolean, written as True or False in any case, as SDKs differ."""

    def parse(text: str) -> bool:
        return {"true": True, "false": False}[text.lower()]

    expects = "accepts one of the following: 'True', 'False'"
    return _declare(doc, name, default, parse, expects, "WORD", ("True", "False"), may_differ=may_differ)


def integer(
    name: str,
    default: str | None,
    doc: str,
    low: int | None = None,
    high: int | None = None,
    required: bool = False,
    may_differ: bool = False,
) -> Any:
    """A dataclass field that holds an integer from `low` to `high`, both included; `16.0` is read as 16.

    The largest is 2^31 - 1, which fits the integer types of all libraries that receive it.
    """

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = int(float(text)) if float(text).is_integer() else _reject()
        if value > _LARGEST:
            raise OverflowError
        return value if (low is None or value >= low) and (high is None or value <= high) else _reject()

    bounds = f" from {low}" if low is not None else ""
    bounds += f" to {high}" if high is not None else " up" if low is not None else ""
    return _declare(
        doc, name, default, parse, f"expects an integer{bounds}", "INTEGER", required=required, may_differ=may_differ
    )


def real(name: str, default: str, doc: str, interval: str, may_differ: bool = False) -> Any:
    """A dataclass field that holds a finite number in an interval in mathematical notation, such as `(0, 1]`."""
    low, high = (float(bound) for bound in interval[1:-1].split(","))

    def parse(text: str) -> float:
        value = float(text)
        above = value > low or (interval[0] == "[" and value == low)
        below = value < high or (interval[-1] == "]" and value == high)
        return value if math.isfinite(value) and above and below else _reject()

    return _declare(doc, name, default, parse, f"expects a number in {interval}", "NUMBER", may_differ=may_differ)


def epoch_list(name: str, doc: str) -> Any:
    """A dataclass field that holds positive epochs written as `10, 20`, in any order; sorted, empty if not given."""

    def parse(text: str) -> tuple[int, ...]:
        listed = text.strip().removesuffix(",")
        values = sorted(int(part) for part in listed.split(",")) if text.strip() else []
        return tuple(values) if all(value > 0 for value in values) and len(set(values)) == len(values) else _reject()

    return _declare(doc, name, None, parse, "expects different positive integers such as '10, 20'", "EPOCHS")


def weights(name: str, default: str, words: tuple[str, ...], doc: str) -> Any:
    """A dataclass field that holds one of `words`, or numbers written as `0.5, 25`: none negative, not all 0."""

    def parse(text: str) -> str | tuple[float, ...]:
        if text in words:
            return text
        values = tuple(float(part) for part in text.split(","))
        sound = all(0 <= value < math.inf for value in values) and any(values)
        return values if sound else _reject()

    listed = ", ".join(f"'{word}'" for word in words)
    expects = f"accepts {listed} or numbers from 0 up such as '0.5, 25'"
    return _declare(doc, name, default, parse, expects, f"{'|'.join(words)}|NUMBERS", words)


def _reject() -> Any:
    raise ValueError
