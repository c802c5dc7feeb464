"""The page on which people try a model in a browser, and the description of the interface for people.

Its files are read once, at the start, and each has a route of its own: no path of a request is ever looked up.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Flask, Response, request

from semseg.serving.page.docs import docs_html

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No script, style or request of anything but this server's own files."""

_HEADERS = {
    "Cache-Control": "no-cache",  # browsers keep the files, and ask whether they are still the same
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: Flask, description: str) -> None:
    """Add the page at ``/``, its files below ``/page/``, and the description (openapi.json's text) at ``/docs``."""
    for file in sorted(Path(__file__).parent.iterdir()):
        if file.suffix in _TYPES:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            _add(app, path, file.read_bytes(), _TYPES[file.suffix])
    _add(app, "/docs", docs_html(description).encode(), _TYPES[".html"])


def _add(app: Flask, path: str, content: bytes, content_type: str) -> None:
    tag = hashlib.sha256(content).hexdigest()

    def view() -> Response:
        response = Response(content, content_type=content_type, headers=_HEADERS)
        response.set_etag(tag)
        response.make_conditional(request)
        return response

    app.add_url_rule(path, f"page {path}", view, methods=["GET"])
