"""The HTTP interface: /ping, /invocations, /execution-parameters (container-contract.md sections 2.2, 2.3, 2.6), /info.

openapi.json beside this file describes it.

What a request wants is settled before any work, its size before its body is read, the picture's before it is decoded.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from semseg import __version__
from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.images import decode_whole, open_image
from semseg.codecs.media_types import check_content_type
from semseg.codecs.recordio import total_bytes
from semseg.errors import RequestError, SemsegError, TooLargeError
from semseg.inference.memory import request_bytes
from semseg.serving.answers import Answer, Segmented, answer_to
from semseg.serving.bodies import body_of
from semseg.serving.engine import Engine
from semseg.serving.room import Room
from semseg.serving.settings import Settings

logger = logging.getLogger(__name__)

_PIECE = 1 << 20
_STALLED_AFTER = 30.0
"""Seconds without a byte from or to a client, after which its thread is free for another."""

_LONGEST_ERROR = 2048
"""The platform passes on so many characters of an error (OriginalMessage of ModelError)."""


def create_app(engine: Engine, settings: Settings) -> Flask:
    """The WSGI application that answers with the engine's predictions."""
    app, room = Flask("semseg", static_folder=None), Room()
    app.register_error_handler(SemsegError, _refuse)
    app.register_error_handler(HTTPException, _refuse_in_general)
    app.register_error_handler(Exception, _report_defect)

    @app.route("/ping", methods=["GET", "POST"])
    def ping() -> Response:
        return Response(status=200) if engine.ready else _loading()

    @app.post("/invocations")
    def invocations() -> Response:
        check_content_type(request.headers.get("Content-Type"))
        answer = answer_to(request.headers.get("Accept"))
        if not engine.ready:
            return _loading()
        body = _read_body(settings.max_payload)
        return _segment(engine, room, body, settings, answer) if body else Response(status=204)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        megabytes = min(settings.max_payload >> 20, 100)  # the most that Batch Transform takes
        return _json(200, {"MaxConcurrentTransforms": 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": megabytes})

    @app.get("/info")
    def info() -> Response:
        return _json(200, _info(engine.description)) if engine.ready else _loading()

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(Path(__file__).with_name("openapi.json").read_bytes(), content_type="application/json")

    return app


def _read_body(limit: int) -> bytes:
    """The request's body; raises TooLargeError beyond `limit` bytes, RequestError when it ends early.

    The limit is not Flask's MAX_CONTENT_LENGTH: under gunicorn that cuts chunked bodies off without an error.
    """
    declared = request.content_length
    if declared is None or declared <= limit:
        body = _receive(limit + 1)
        if len(body) < (declared or 0):
            raise RequestError(f"The request's body ended after {len(body):,} of {declared:,} bytes.", "Send it again.")
        if len(body) <= limit:
            return body
    raise TooLargeError(
        f"The request's body is larger than the limit of {limit:,} bytes.",
        "Send a smaller image, or serve with a higher SAGEMAKER_MAX_PAYLOAD_IN_MB.",
    )


def _receive(most: int) -> bytes:
    """The body's first bytes, at most so many; raises RequestError when they stop coming."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(_STALLED_AFTER)
    body = bytearray()
    try:
        while piece := request.stream.read(min(_PIECE, most - len(body))):
            body += piece
    except OSError as error:  # of gunicorn's parser too: a chunk cut short or malformed
        raise RequestError("The request's body stopped before its end.", "Send it again.") from error
    return bytes(body)


def _segment(engine: Engine, room: Room, body: bytes, settings: Settings, answer: Answer) -> Response:
    image = open_image(body, settings.max_pixels)
    size = engine.description.num_classes, image.height, image.width
    answer.check(*size, limit=settings.max_response)
    with ExitStack() as memory:
        memory.enter_context(room.held(request_bytes(*size, answer.memory(size[0])), of=engine.memory))
        pixels = decode_whole(image)
        parts = answer.parts(Segmented(pixels, engine.predict(pixels), engine.description))
        sent, headers = body_of(parts, answer.compressible and request.accept_encodings.quality("gzip") > 0)
        response = Response(sent, headers=headers, content_type=answer.media_type)
        if total_bytes(parts) > _PIECE:
            response.call_on_close(memory.pop_all().close)  # they are in memory until they are sent
        return response


def _info(model: ModelDescription) -> dict[str, object]:
    """What is served; null is what the model directory does not tell."""
    return {
        "algorithm": model.algorithm,
        "backbone": model.backbone,
        "num_classes": model.num_classes,
        "crop_size": model.crop_size,
        "classes": model.class_names,
        "version": __version__,
    }


def _loading() -> Response:
    return _error(503, "The model is still loading.", "Ask again when /ping answers 200.")


def _refuse(error: SemsegError) -> Response:
    return _error(error.http_status, error.message, error.hint)


def _refuse_in_general(error: HTTPException) -> Response:
    """Flask's own refusals: 404, and 405 with its Allow."""
    response = _error(error.code or 500, f"{error.name}: {request.method} {request.path}")
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _report_defect(error: Exception) -> Response:
    logger.error("Defect while answering %s %s", request.method, request.path, exc_info=error)
    return _error(500, f"Internal error: {type(error).__name__}.", "The server's log has the details.")


def _error(status: int, message: str, hint: str = "") -> Response:
    """An error as JSON that the platform passes on whole."""
    response = _json(status, {"error": message, "hint": hint})
    if len(response.get_data()) >= _LONGEST_ERROR:  # a character takes up to 12 bytes of JSON
        response = _json(status, {"error": message[:100], "hint": hint[:50]})
    return response


def _json(status: int, content: dict[str, object]) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
