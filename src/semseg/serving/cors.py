"""Lets the scripts of other web pages call this server (CORS, the Fetch standard, section 3.2).

Without it, browsers run the requests of such pages, but keep the responses from them.
"""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask, Response, request

from semseg.serving.variables import ANY_ORIGIN

_METHODS = "GET, POST"
_REQUEST_HEADERS = (
    "Accept, Content-Encoding, Content-Type, X-Amzn-SageMaker-Custom-Attributes, X-Amzn-SageMaker-Inference-Id"
)
_RESPONSE_HEADERS = "Retry-After, X-Amzn-SageMaker-Custom-Attributes, X-Request-Id"
"""Headers that scripts may read, besides Content-Type and Content-Length, which they always may."""

_PREFLIGHT_SECONDS = 600


def allow_origins(app: Flask, origins: Collection[str]) -> None:
    """Answer preflight requests from these origins, and let them read all responses; origins: as `Origins` reads them.

    Requests from other origins, and those without one, are answered as if this were not here.
    """

    @app.before_request
    def preflight() -> Response | None:
        asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not (asked and _allowed(origins)):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        return response

    @app.after_request
    def share(response: Response) -> Response:
        if ANY_ORIGIN not in origins:
            response.vary.add("Origin")
        if _allowed(origins):
            response.headers["Access-Control-Allow-Origin"] = (
                ANY_ORIGIN if ANY_ORIGIN in origins else request.headers["Origin"]
            )
            response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
        return response


def _allowed(origins: Collection[str]) -> bool:
    """Whether the current request comes from one of the origins."""
    origin = request.headers.get("Origin")
    return origin is not None and (ANY_ORIGIN in origins or origin in origins)
