"""One invocation: from the request's body to the bytes of its answer, within the memory and the time it may have."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from flask import Response, request
from gunicorn.http.errors import ParseException

from semseg.codecs.images import decode_whole, open_image
from semseg.codecs.recordio import Buffer
from semseg.errors import RequestError, TooLargeError
from semseg.inference.memory import request_bytes
from semseg.inference.tiling import computed_pixels
from semseg.serving.answers import Answer, Segmented
from semseg.serving.codings import accepts_gzip, is_packed, unpacked
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.metrics import Metrics
from semseg.serving.prediction_queue import PredictionQueue, require_client
from semseg.serving.request_record import RequestRecord
from semseg.serving.response_bodies import response_body
from semseg.serving.settings import Settings

_PIECE = 1 << 20


class Invocation:
    """Answers requests with the predictions of whichever model they are for."""

    def __init__(
        self,
        settings: Settings,
        budget: MemoryBudget,
        metrics: Metrics,
        client_left: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        """budget: the memory that requests share, those for other models too.

        client_left: whether the client of a request, given its WSGI environment, has closed its connection.
        """
        self._settings = settings
        self._budget = budget
        self._metrics = metrics
        self._client_left = client_left

    def respond(self, queue: PredictionQueue, answer: Answer, record: RequestRecord) -> Response:
        """The response to the request that Flask has at hand, from a model that is loaded.

        record: gets what becomes known of the request. Raises BusyError, TooLargeError, RequestError, ImageError;
        ClientLeftError before a step whose result nobody would take.
        """
        until = time.monotonic() + self._settings.timeout
        queue.require_place()  # before the body is read, and again when it has been
        with ExitStack() as held:
            held.enter_context(self._metrics.in_flight.track_inprogress())
            content = self._content(queue, answer, until, record, held)
            if content is None:
                return Response(status=204)
            gzip = answer.compressible and accepts_gzip(request.headers.get("Accept-Encoding"))
            body, headers = response_body(content, gzip)
            response = Response(body, headers=headers, content_type=answer.media_type)
            response.call_on_close(held.pop_all().close)  # what is sent is in memory until it is
            return response

    def _content(
        self, queue: PredictionQueue, answer: Answer, until: float, record: RequestRecord, held: ExitStack
    ) -> Sequence[Buffer] | None:
        """What is to be sent, None for an empty body; `held` is what it occupies until then."""
        model, left = queue.description, partial(self._client_left, request.environ)
        with self._budget.bodies.growing() as take:
            with record.stage("receive"):
                body = _read_body(self._settings.max_payload, take)
            if not body:
                return None
            record.received = len(body)
            image = open_image(body, self._settings.max_pixels)
            del body  # the image may have a copy of its own, which is all that is counted
            record.size = image.size
            _check_size(image.width, image.height, model.network.stride, self._settings.max_pixels)
            size = model.num_classes, image.height, image.width
            answer.check(*size, limit=self._settings.max_response)
            with queue.place(left), self._metrics.queued.track_inprogress():
                with record.stage("wait"):
                    needed = request_bytes(*size, model.network.stride, answer.memory(model.num_classes))
                    held.enter_context(self._budget.images.reserve(needed, until))
                require_client(left)
                with record.stage("decode"):
                    pixels = decode_whole(image)
                with record.stage("network"):
                    prediction = queue.predict(pixels, until, left)
        require_client(left)
        with record.stage("encode"):
            return answer.encode(Segmented(pixels, prediction, model))


def _check_size(width: int, height: int, stride: int, limit: int) -> None:
    """Raises TooLargeError when the network would compute more pixels than allowed, though the image has fewer."""
    pixels = computed_pixels(height, width, stride)
    if pixels > limit:
        raise TooLargeError(
            f"The picture of {width} x {height} pixels counts as {pixels:,}, more than the {limit:,} allowed: sides "
            f"count in steps of {stride}, for the network computes squares of {stride} x {stride}.",
            "Send a smaller or less narrow picture, or serve with a higher SEMSEG_MAX_PIXELS.",
        )


def _read_body(limit: int, take: Callable[[int], None]) -> bytes:
    """The request's body, unpacked if it is gzip; at most `limit` bytes may come, and be unpacked.

    take: is called with the number of bytes of each piece that has come. Raises TooLargeError beyond the limit;
    RequestError when the body ends early, stops coming, is badly framed or no sound gzip.
    """
    declared = request.content_length or 0
    if declared > limit:
        raise _too_large(limit)
    body, pieces = io.BytesIO(), _pieces(limit, declared)  # BytesIO does not copy what it gives away
    try:
        for piece in unpacked(pieces) if is_packed(request.headers.get("Content-Encoding")) else pieces:
            if body.tell() + len(piece) > limit:
                raise _too_large(limit)
            take(len(piece))
            body.write(piece)
    except OSError as error:  # of gunicorn's parser too: a chunk cut short
        raise RequestError("The request's body stopped before its end.", "Send it again.") from error
    except ParseException as error:
        raise RequestError(
            f"The request's body is not in sound chunks: {error}.", "Send its length instead."
        ) from error
    return body.getvalue()


def _pieces(limit: int, declared: int) -> Iterator[bytes]:
    """The bytes of the request's body as they come; raises TooLargeError beyond `limit`, RequestError when some lack.

    The limit is not Flask's MAX_CONTENT_LENGTH: under gunicorn that cuts chunked bodies off without an error.
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
