"""Answers one invocation: from the request's body to the bytes of its answer, within its limits of memory and time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import Response, request
from gunicorn.http.errors import ParseException
from PIL.ImageFile import ImageFile

from semseg.codecs.images import decode_whole, open_image
from semseg.codecs.kinds import kind_of
from semseg.codecs.recordio import Buffer
from semseg.errors import ImageError, NotAcceptableError, RequestError, TooLargeError, UserError
from semseg.inference.memory import request_bytes
from semseg.inference.scaling import Scale, scale_of
from semseg.inference.tiling import computed_pixels
from semseg.serving.answers import Answer, Segmented
from semseg.serving.codings import accepts_gzip, is_packed, unpacked
from semseg.serving.forms import boundary_of, file_of
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.metrics import Metrics
from semseg.serving.prediction_queue import PredictionQueue, require_client
from semseg.serving.request_record import RequestRecord
from semseg.serving.response_bodies import response_body
from semseg.serving.settings import Settings

_PIECE = 1 << 20


class Invocation:
    """Answers requests with the predictions of a model, which may be another for each request."""

    def __init__(
        self,
        settings: Settings,
        budget: MemoryBudget,
        metrics: Metrics,
        client_left: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        """budget: the memory that requests for all models share.

        client_left: whether the client of a request, given its WSGI environment, has closed its connection.
        """
        self._settings = settings
        self._budget = budget
        self._metrics = metrics
        self._client_left = client_left

    def respond(self, queue: PredictionQueue, answer: Answer, record: RequestRecord) -> Response:
        """The response to Flask's current request, from the model of `queue`, which is loaded.

        record: filled in with what is known of the request. Raises BusyError, TooLargeError, RequestError, ImageError;
        ClientLeftError before the next step if the client has left.
        """
        until = time.monotonic() + self._settings.timeout
        queue.require_place()  # before the body is read, and again afterwards
        with ExitStack() as held:
            held.enter_context(self._metrics.in_flight.track_inprogress())
            content = self._content(queue, answer, until, record, held)
            if content is None:
                return Response(status=204)
            record.media_type = answer.media_type
            gzip = answer.compressible and accepts_gzip(request.headers.get("Accept-Encoding"))
            body, headers = response_body(content, gzip)
            response = Response(body, headers=headers, content_type=answer.media_type)
            response.call_on_close(held.pop_all().close)  # the answer is in memory until it is sent
            return response

    def _content(
        self, queue: PredictionQueue, answer: Answer, until: float, record: RequestRecord, held: ExitStack
    ) -> Sequence[Buffer] | None:
        """The content of the response, None for an empty body; `held` gets the memory that it takes until it is
        sent."""
        model, left = queue.description, partial(self._client_left, request.environ)
        with self._budget.bodies.growing() as take:
            with record.stage("receive"):
                body = _read_body(self._settings.max_payload, take)
            if not body:
                return None
            record.received = len(body)
            image = _opened(body, self._settings.max_pixels)
            del body  # the image may have its own copy, and only one is counted
            record.size = image.size
            scale = _scale(queue, answer)
            _check_size(image.width, image.height, scale, model.network.stride, self._settings.max_pixels)
            size = model.num_classes, image.height, image.width
            answer.check(*size, limit=self._settings.max_response)
            with queue.place(left), self._metrics.queued.track_inprogress():
                with record.stage("wait"):
                    needed = request_bytes(*size, model.network.stride, answer.memory(model.num_classes), scale)
                    held.enter_context(self._budget.images.reserve(needed, until))
                require_client(left)
                with record.stage("decode"):
                    pixels = decode_whole(image)
                with record.stage("network"):
                    prediction = queue.predict(pixels, until, left, scale)
        require_client(left)
        with record.stage("encode"):
            return answer.encode(Segmented(pixels, prediction, model))


def _opened(body: bytes, limit: int) -> ImageFile:
    """The image in a body of at most `limit` pixels, not yet decoded. Raises ImageError and TooLargeError."""
    try:
        return open_image(body, limit)
    except ImageError as error:
        kind = kind_of(body)
        error.hint = f"{error.hint} {kind.in_request if kind else ''}".rstrip()
        raise


def _scale(queue: PredictionQueue, answer: Answer) -> Scale:
    """The size at which the network gets the image. Raises NotAcceptableError if the model does not know it."""
    try:
        return queue.scale if answer.scale is None else scale_of(queue.description, answer.scale)
    except UserError as error:
        raise NotAcceptableError(error.message, error.hint) from error


def _check_size(width: int, height: int, scale: Scale, stride: int, limit: int) -> None:
    """Raises TooLargeError when the network would compute more pixels than allowed, even if the image has fewer."""
    computed = scale.size(height, width)
    pixels = computed_pixels(*computed, stride)
    if pixels > limit:
        resized = "" if computed == (height, width) else f", resized to {computed[1]} x {computed[0]},"
        raise TooLargeError(
            f"The image of {width} x {height} pixels{resized} counts as {pixels:,}, more than the {limit:,} allowed: "
            f"its sides are rounded up to multiples of {stride}, because the network computes squares of {stride} x "
            f"{stride}.",
            "Send a smaller or less narrow image, or serve with a higher SEMSEG_MAX_PIXELS.",
        )


def _read_body(limit: int, take: Callable[[int], None]) -> bytes:
    """The request's body, of a form its file, decompressed if it is gzip; `limit` applies before and after that.

    take: called with the size of each piece in bytes. Raises TooLargeError beyond the limit; RequestError when the body
    ends early, stalls, is badly framed, is not valid gzip, or is a form of anything but one file.
    """
    declared = request.content_length or 0
    if declared > limit:
        raise _too_large(limit)
    body, pieces = io.BytesIO(), _pieces(limit, declared)  # BytesIO.getvalue does not copy
    try:
        if is_packed(request.headers.get("Content-Encoding")):
            pieces = unpacked(pieces)
        if boundary := boundary_of(request.headers.get("Content-Type")):
            pieces = file_of(pieces, boundary)
        for piece in pieces:
            if body.tell() + len(piece) > limit:
                raise _too_large(limit)
            take(len(piece))
            body.write(piece)
    except OSError as error:  # gunicorn's parser raises it too, for a truncated chunk
        raise RequestError("The request's body stopped before its end.", "Send it again.") from error
    except ParseException as error:
        raise RequestError(
            f"The request's body is not validly chunked: {error}.", "Send it with a Content-Length instead."
        ) from error
    return body.getvalue()


def _pieces(limit: int, declared: int) -> Iterator[bytes]:
    """The bytes of the request's body as they arrive; raises TooLargeError beyond `limit`, RequestError if some are
    missing.

    Flask's MAX_CONTENT_LENGTH would not do: under gunicorn it truncates chunked bodies without an error.
    """
    received = 0
    while piece := request.stream.read(min(_PIECE, limit + 1 - received)):
        received += len(piece)
        if received > limit:
            raise _too_large(limit)
        yield piece
    if received < declared:
        raise RequestError(f"The request's body ended after {received:,} of {declared:,} bytes.", "Send it again.")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"The request's body is larger than the limit of {limit:,} bytes.",
        "Send a smaller image, or serve with a higher SAGEMAKER_MAX_PAYLOAD_IN_MB.",
    )
