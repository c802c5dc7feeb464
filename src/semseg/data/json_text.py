"""Parses JSON written by people, with helpful error messages."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any


def parse_object(text: bytes | str) -> dict[str, Any]:
    """Parse a JSON object that has no key twice; bytes are UTF-8 with or without a byte order mark.

    Nested objects are not checked for repeated keys; `require_unique` does that.
    Raises ValueError with the reason, without a full stop.
    """
    obj = parse_json(text)
    if not isinstance(obj, dict):
        raise ValueError("not a JSON object")
    require_unique(obj)
    return obj


def parse_json(text: bytes | str) -> Any:
    """Parse JSON; its objects are not checked for repeated keys. Raises ValueError as `parse_object` does."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_build)
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: byte {error.start + 1} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {_explained(error)}") from error


def require_unique(value: object) -> None:
    """Raise ValueError if a value inside the result of `parse_object` is an object with a repeated key."""
    if isinstance(value, _WithRepeatedKey):
        raise ValueError(f"key {value.key!r:.100} is given twice")


def byte(value: Any) -> int | None:
    """Parse an integer from 0 to 255, or a string of one; None for anything else."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch("[0-9]{1,3}", text) and int(text) <= 255 else None


class _WithRepeatedKey(dict[str, Any]):
    """A JSON object in which `key` is given twice; the last value counts."""

    key = ""


def _build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) < len(pairs):
        obj = _WithRepeatedKey(obj)
        obj.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return obj


def _explained(error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):  # a number of thousands of digits, or brackets a thousand deep
        return f"{error}"
    where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno} column {error.colno}"
    if error.doc[: error.pos].rstrip().endswith(",") and error.doc[error.pos : error.pos + 1] in ("}", "]"):
        return f"a comma before {error.doc[error.pos]!r} at {where}"
    return f"{error.msg} at {where}"
