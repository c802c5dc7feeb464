"""Reads the platform's JSON files, up to a size limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semseg.errors import UserError

MAX_BYTES = 1 << 20  # enough for the 100 hyperparameters of 2,500 characters that the platform allows


def read_json_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; `{}` if there is no file.

    Raises UserError, which names the file, if it is unreadable, larger than 1 MiB, or not one JSON object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES} bytes.")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value
