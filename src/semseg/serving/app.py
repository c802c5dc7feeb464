"""The HTTP interface: SageMaker's /ping, /invocations and /execution-parameters, and three paths of this project.

Those are /info, /metrics for Prometheus, and /openapi.json, which describes them all. The requested media types are
checked before any work, the body's size before it is read, the image's size before it is decoded.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from flask import Flask, Response, g, request
from PIL import Image
from werkzeug.exceptions import HTTPException

from semseg.codecs.media_types import check_content_type
from semseg.codecs.palettes import color_names
from semseg.errors import BusyError, SemsegError, UnsupportedCodingError
from semseg.inference.load import LoadedModel
from semseg.serving.answers import OFFERS, Offer, answer_to
from semseg.serving.codings import ACCEPTED, check_content_encoding
from semseg.serving.cors import allow_origins
from semseg.serving.forms import boundary_of
from semseg.serving.invocation import Invocation
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.metrics import CONTENT_TYPE, Metrics
from semseg.serving.openapi import description
from semseg.serving.page import add_page
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.refusals import error_body, internal_error
from semseg.serving.request_record import INVOCATIONS, RequestRecord
from semseg.serving.settings import Settings
from semseg.version import __version__

logger = logging.getLogger(__name__)

_ATTRIBUTES, _INFERENCE_ID = "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id"
_LONGEST_HEADER = 1024
"""Characters of the first header that the platform passes on; it passes on fewer of the second."""


def create_app(
    queue: PredictionQueue,
    settings: Settings,
    budget: MemoryBudget,
    client_left: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    offers: Mapping[str, Offer] = OFFERS,
) -> Flask:
    """The WSGI application that answers requests with a model's predictions.

    queue: the model's queue; budget: the memory that requests share. client_left: whether the client of a request,
    given its WSGI environment, has closed its connection. offers: the media types of answers.
    """
    app, metrics = Flask("semseg", static_folder=None), Metrics()
    invocation = Invocation(settings, budget, metrics, client_left)
    app.before_request(queue.report_if_stuck)
    app.register_error_handler(SemsegError, _refuse)
    app.register_error_handler(MemoryError, _refuse_for_memory)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _report_bug)

    @app.route("/ping", methods=["GET", "POST"])
    def ping() -> Response:
        return Response(status=200) if queue.ready else _loading()

    @app.post(INVOCATIONS)
    def invocations() -> Response:
        if not boundary_of(content_type := request.headers.get("Content-Type")):
            check_content_type(content_type)
        check_content_encoding(request.headers.get("Content-Encoding"))
        answer = answer_to(request.headers.get("Accept"), offers)
        return invocation.respond(queue, answer, g.record) if queue.ready else _loading()

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        concurrent = settings.workers
        megabytes = min(settings.max_payload >> 20, 100 // concurrent)  # Batch Transform limits the product to 100 MB
        return _json(
            200, {"MaxConcurrentTransforms": concurrent, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": megabytes}
        )

    @app.get("/info")
    def info() -> Response:
        return _json(200, _info(queue.loaded)) if queue.ready else _loading()

    @app.get("/metrics")
    def prometheus_metrics() -> Response:
        text = metrics.text(queue.description if queue.ready else None)
        return Response(text, content_type=CONTENT_TYPE)

    Image.preinit()  # Pillow would import modules in the first request, when no file descriptor may be left
    described = description(offers)  # now, for the same reason

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(described, content_type="application/json")

    if settings.page == "on":
        add_page(app, described)
    _observe(app, metrics, settings.request_log)
    if settings.cors_origins:
        allow_origins(app, settings.cors_origins)
    return app


def _observe(app: Flask, metrics: Metrics, log: str) -> None:
    """Counts and logs each request once its answer is sent; adds the request's id and attributes to the answer."""
    paths = {rule.rule for rule in app.url_map.iter_rules()}

    @app.before_request
    def begin() -> None:
        g.record = RequestRecord(request.path, _printable(request.headers.get(_INFERENCE_ID, "")))

    @app.after_request
    def end(response: Response) -> Response:
        record, known, sending = g.record, request.path in paths, time.perf_counter()
        response.headers["X-Request-Id"] = record.request_id
        if attributes := _printable(request.headers.get(_ATTRIBUTES, "")):
            response.headers[_ATTRIBUTES] = attributes

        @response.call_on_close
        def sent() -> None:
            record.stages["send"] = time.perf_counter() - sending
            record.end(response.status_code, known, metrics, log)

        return response


def _printable(text: str) -> str:
    """The part of a header that is safe to echo: printable ASCII, so no line breaks, of limited length."""
    return "".join(islice((letter for letter in text if " " <= letter <= "~"), _LONGEST_HEADER))


def _info(loaded: LoadedModel) -> dict[str, object]:
    """The content of /info; null where the model directory does not say."""
    model = loaded.description
    return {
        "algorithm": model.network.name,
        "backbone": model.backbone.name,
        "num_classes": model.num_classes,
        "crop_size": model.crop_size,
        "base_size": model.base_size,
        "scale": str(loaded.predictor.scale),
        "classes": model.classes.titles if model.classes.named else None,
        "colors": color_names(model.classes),
        "engine": loaded.engine,
        "precision": loaded.precision,
        "version": __version__,
    }


def _loading() -> Response:
    return _refuse(BusyError("The model is still loading.", "Try again when /ping returns 200."))


def _refuse(error: SemsegError) -> Response:
    if error.http_status >= 500 and not isinstance(error, BusyError):
        logger.error("%s", error)  # for the operator: the client cannot fix it
    response = _error(error.http_status, error.message, error.hint)
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UnsupportedCodingError):
        response.headers["Accept-Encoding"] = ACCEPTED  # RFC 9110 section 15.5.16
    return response


def _refuse_for_memory(error: MemoryError) -> Response:
    """The response when the machine has less memory than was free while the model was loaded."""
    logger.error("The machine's memory is too small for %s %s: %s", request.method, request.path, error)
    return _error(
        507,
        "The machine's memory is too small for this request.",
        "Send a smaller image, ask for an answer with fewer bytes a pixel, such as image/png, or serve on a machine "
        "with more memory.",
    )


def _refuse_http(error: HTTPException) -> Response:
    """The response to Flask's own errors: 404, and 405 with its Allow header."""
    response = _error(
        error.code or 500,
        f"{error.name}: {request.method} {request.path}",
        "Send images to POST /invocations; GET /openapi.json lists all paths and methods.",
    )
    response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return response


def _report_bug(error: Exception) -> Response:
    logger.error("Bug while answering %s %s", request.method, request.path, exc_info=error)
    return _error(500, *internal_error(error))


def _error(status: int, message: str, hint: str) -> Response:
    return Response(error_body(message, hint), status, content_type="application/json")


def _json(status: int, content: dict[str, object]) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
