"""Options of a job from a file, TOML or JSON."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Set
from pathlib import Path
from typing import Any

from semseg.cli.options import FLAGS, option, option_with_value
from semseg.cli.parser import did_you_mean
from semseg.errors import UserError, one_line, os_reason

_MAX_BYTES = 1_000_000


class FromFile(argparse.Action):
    """Takes options from the file that an option names; those on the command line take precedence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        """Sets what the command line has not set before; what it sets later replaces this.

        The file's keys are options without their dashes, or hyperparameters by their own names. Raises UserError if the
        file cannot be read, or has a key or a value that no option has; the parser exits for a value that is not valid.
        """
        path: Path = values
        names = {name.lstrip("_") for name in vars(namespace)} - {self.dest, "run", "help"}
        words = [word for key, value in _read(path).items() for word in _words(path, key, value, names)]
        for name, value in vars(parser.parse_args(words)).items():
            default = parser.get_default(name)
            if value != default and getattr(namespace, name) == default:
                setattr(namespace, name, value)


def _words(path: Path, key: str, value: object, names: Set[str]) -> list[str]:
    """A key and its value as on the command line."""
    name = key.replace("-", "_").lstrip("_")
    if name not in names:
        raise UserError(
            f"{one_line(str(path))}: there is no option {one_line(key[:100])!r}.{did_you_mean(name, names)}",
            "Keys are options without their dashes, such as num_classes.",
        )
    if name in FLAGS and isinstance(value, bool):
        return [option(name)] if value else []
    return option_with_value(name, _text(path, key, value))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode()
        if len(text) > _MAX_BYTES:
            raise UserError(f"{one_line(str(path))} has more than {_MAX_BYTES} bytes.")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{os_reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise UserError(
            f"{one_line(str(path))} is not valid {kind}: {one_line(str(error))[:200]}.",
            "Lines of TOML look like num_classes = 4 and train = 'images'.",
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{one_line(str(path))} must hold an object of options, not a {type(content).__name__}.")
    return content


def _text(path: Path, key: str, value: object) -> str:
    """A value as on the command line; a list is joined by commas."""
    if isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        return ", ".join(map(str, value))
    if not isinstance(value, str | int | float):
        raise UserError(
            f"{one_line(str(path))}: {one_line(key[:100])} must be text, a number, true or false, not a "
            f"{type(value).__name__}.",
            "Options are not nested in tables.",
        )
    return str(value)
