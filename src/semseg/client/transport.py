"""What a way to a model is: over HTTP (`http`) or through SageMaker (`endpoint`)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from semseg.client.sources import Source


class Reply(NamedTuple):
    """A successful response: its body and its Content-Type."""

    body: bytes
    content_type: str


class Transport(Protocol):
    """A way to a model."""

    def send(self, source: Source, accept: str, seconds: float, most: int, /) -> Reply:
        """Return the response for an image.

        seconds: to wait at most; most: bytes of the longest response. Raises BusyError if it is to be tried again,
        other errors for refusals, ServerError if there is no response or it is too long.
        """
        ...

    def close(self) -> None:
        """End its connections."""
        ...
