"""The one form of all errors: JSON that the platform passes on whole."""

from __future__ import annotations

import json

_LONGEST = 2048
"""The platform passes on so many characters of an error (OriginalMessage of ModelError)."""


def error_body(message: str, hint: str) -> str:
    """An error as JSON, shortened if it has to be."""
    body = json.dumps({"error": message, "hint": hint})
    if len(body) < _LONGEST:
        return body
    return json.dumps({"error": message[:100], "hint": hint[:50]})  # a character takes up to 12 bytes of JSON


def internal_error(error: Exception) -> tuple[str, str]:
    """Message and hint of a defect, which do not give away what the error says: that is for the log."""
    return f"Internal error: {type(error).__name__}.", "The server's log has the details."
