"""The client: images in, segmentations out, one by one or many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Literal, Self, overload

from semseg.client.answers import Answer, Wanted, decode, wanted
from semseg.client.endpoint import EndpointTransport, Runtime
from semseg.client.fitting import joined, shrunk, stretched, tile_pixels, tiles
from semseg.client.http import HttpTransport
from semseg.client.retries import until_served
from semseg.client.segmentation import Segmentation
from semseg.client.sources import Source, load, png_source
from semseg.client.transport import Reply, Transport
from semseg.codecs.image_like import ImageLike
from semseg.codecs.media_types import JSON, RECORDIO_PROTOBUF
from semseg.errors import SemsegError, TooLargeError, UserError

Oversize = Literal["shrink", "tile", "refuse"]
"""What is done with an image that exceeds a limit."""

PLATFORM_LIMIT = 6_291_456
"""Bytes of the longest request and response of an endpoint, by the platform's API."""

_MOST_BYTES_PER_PIXEL, _ENVELOPE = 4 * 254, 1 << 20
"""Upper bounds for a response: float32 for each of the most classes that a model can have, and in JSON their names."""

_PROBE = 64


class Client:
    """Calls a model: on a server, or on a SageMaker endpoint. It may be shared by threads."""

    @overload
    def __init__(self, server: str, *, timeout: float = ..., max_request: int | None = ...) -> None: ...

    @overload
    def __init__(
        self,
        server: Runtime,
        endpoint: str,
        *,
        timeout: float = ...,
        max_request: int | None = ...,
        max_response: int | None = ...,
    ) -> None: ...

    def __init__(
        self,
        server: str | Runtime,
        endpoint: str | None = None,
        *,
        timeout: float = 120.0,
        max_request: int | None = None,
        max_response: int | None = None,
    ) -> None:
        """server: an address, such as ``http://localhost:8080``, or ``boto3.client("sagemaker-runtime")``.

        endpoint: the endpoint's name. timeout: seconds for one request, of which an image in tiles takes several, with
        its whole response and its repetitions; on an endpoint the timeouts of the runtime client count for each call.
        max_request,
        max_response: bytes; by default there is no limit over HTTP, and the platform's of 6,291,456 on an endpoint.
        Raises UserError for an address that is not one.
        """
        self._transport: Transport
        if isinstance(server, str):
            if endpoint is not None:
                raise UserError("An address and an endpoint's name are given.", "Give a runtime client, or no name.")
            self._transport = HttpTransport(server)
        else:
            if not endpoint:
                raise UserError("The name of the endpoint is missing.", "Give it after the runtime client.")
            self._transport = EndpointTransport(server, endpoint)
            max_request, max_response = max_request or PLATFORM_LIMIT, max_response or PLATFORM_LIMIT
        self._timeout = timeout
        self._max_request = max_request
        self._max_response = max_response
        self._num_classes = 0

    def predict(
        self, image: ImageLike, *, accept: str = RECORDIO_PROTOBUF, oversize: Oversize = "shrink"
    ) -> Segmentation:
        """Segment an image.

        image: the path of a JPEG or PNG file, its bytes, a Pillow image, or pixels, uint8 (H, W, 3). accept: the
        response to ask for, by default the probabilities of all classes; ``image/png`` is the mask alone. oversize:
        of an image beyond the limit for requests, ``shrink`` sends a JPEG file of lower quality, if necessary scaled
        down; ``tile`` sends parts, without loss, also where the response would be too long, but the network sees them
        one at a time; ``refuse`` raises TooLargeError. The answer has the image's own size in all cases.

        Raises ImageError for an image that cannot be read, BusyError for a server that stays busy, other errors of
        RequestError, TooLargeError and NotAcceptableError for what it refuses, ServerError if there is no response or
        it cannot be read.
        """
        source, asked = load(image), wanted(accept)
        return Segmentation(source, self._answer(source, asked, oversize))

    @overload
    def map(
        self,
        images: Iterable[ImageLike],
        *,
        accept: str = ...,
        oversize: Oversize = ...,
        threads: int = ...,
        return_exceptions: Literal[False] = ...,
    ) -> Iterator[Segmentation]: ...

    @overload
    def map(
        self,
        images: Iterable[ImageLike],
        *,
        accept: str = ...,
        oversize: Oversize = ...,
        threads: int = ...,
        return_exceptions: Literal[True],
    ) -> Iterator[Segmentation | SemsegError]: ...

    def map(
        self,
        images: Iterable[ImageLike],
        *,
        accept: str = RECORDIO_PROTOBUF,
        oversize: Oversize = "shrink",
        threads: int = 4,
        return_exceptions: bool = False,
    ) -> Iterator[Segmentation | SemsegError]:
        """Segment many images, `threads` at a time; yields in the order of the images, which are read as needed.

        return_exceptions: whether to yield the errors of `predict` in place of segmentations, instead of raising them.
        An error of `images` itself is raised after the results of the images before it.
        """
        remaining = iter(images)
        broken: Exception | None = None
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Segmentation]] = deque()
            try:
                while True:
                    try:
                        for image in islice(remaining, 2 * threads - len(waiting)):
                            waiting.append(pool.submit(self.predict, image, accept=accept, oversize=oversize))
                    except Exception as error:
                        remaining, broken = iter(()), error
                    if not waiting and broken:
                        raise broken
                    if not waiting:
                        return
                    failure = waiting[0].exception()
                    if isinstance(failure, SemsegError) and return_exceptions:
                        waiting.popleft()
                        yield failure
                    else:
                        yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, source: Source, asked: Wanted, oversize: Oversize) -> Answer:
        """The answer for an image, by a way that keeps to the limits."""
        if oversize == "tile" and (most := self._most_pixels(source, asked)) is not None:
            return joined(source, tiles(*source.size, most), lambda pixels: self._ask(png_source(pixels), asked))
        if self._max_request is None or len(source.data) <= self._max_request:
            return self._ask(source, asked)
        if oversize == "refuse":
            raise TooLargeError(
                f"{source.name} has {len(source.data):,} bytes, more than the {self._max_request:,} of a request.",
                'Send a smaller one, or set oversize to "shrink" or "tile".',
            )
        smaller = shrunk(source, self._max_request)
        if smaller.size == source.size:
            return self._ask(smaller, asked)
        self._require_arrays(asked, source)
        return stretched(self._ask(smaller, asked), source.size)

    def _most_pixels(self, source: Source, asked: Wanted) -> int | None:
        """The most pixels of a tile; None if the whole image is within the limits."""
        needed = asked.bytes_per_pixel(self._classes(source, asked))
        allowed = tile_pixels(None, self._max_response, needed)
        answerable = allowed is None or source.size[0] * source.size[1] <= allowed
        if answerable and (self._max_request is None or len(source.data) <= self._max_request):
            return None
        self._require_arrays(asked, source)
        return tile_pixels(self._max_request, self._max_response, needed)

    def _classes(self, source: Source, asked: Wanted) -> int:
        """The number of classes, if the response's length depends on it: known from the corner of the first image."""
        depends = self._max_response is not None and asked.bytes_per_pixel(1) != asked.bytes_per_pixel(2)
        if depends and not self._num_classes:
            corner = self._ask(png_source(source.pixels[:_PROBE, :_PROBE]), asked).probabilities
            self._num_classes = 254 if corner is None else len(corner)
        return self._num_classes

    def _ask(self, source: Source, asked: Wanted) -> Answer:
        """The decoded response for an image that is within the limits."""
        most = _MOST_BYTES_PER_PIXEL * source.size[0] * source.size[1] + _ENVELOPE

        def call(seconds: float) -> Reply:
            return self._transport.send(source, asked.accept, seconds, most)

        reply = until_served(call, self._timeout)
        return decode(reply.body, reply.content_type, asked, source.size)

    @staticmethod
    def _require_arrays(asked: Wanted, source: Source) -> None:
        if asked.media_type == JSON:
            raise TooLargeError(
                f"{source.name} is too large for one request, and summaries of parts cannot be joined.",
                "Ask for image/png or an array.",
            )
