"""The JSON body of all error responses, short enough for the platform to pass on whole."""

from __future__ import annotations

import json

_LONGEST = 2048
"""Characters of an error that the platform passes on, as OriginalMessage of ModelError."""


def error_body(message: str, hint: str) -> str:
    """An error as JSON, shortened to fit if necessary."""
    body = json.dumps({"error": message, "hint": hint})
    if len(body) < _LONGEST:
        return body
    return json.dumps({"error": message[:100], "hint": hint[:50]})  # a character takes up to 12 bytes of JSON


def internal_error(error: Exception) -> tuple[str, str]:
    """The message and hint for a bug; the error's own text stays in the log."""
    return f"Internal error: {type(error).__name__}.", "The server's log has the details."
