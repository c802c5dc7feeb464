"""Sends an image to a SageMaker endpoint, through a client of boto3 that the caller has made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

from semseg.client.refusals import refusal
from semseg.client.sources import Source
from semseg.client.transport import Reply
from semseg.errors import SemsegError, ServerError, one_line


class Runtime(Protocol):
    """The client that ``boto3.client("sagemaker-runtime")`` returns."""

    def invoke_endpoint(self, **arguments: Any) -> Any:
        """Call an endpoint."""
        ...


class EndpointTransport:
    """A SageMaker endpoint, called by a client of boto3, whose own timeouts and retries count."""

    def __init__(self, runtime: Runtime, endpoint: str) -> None:
        self._runtime = runtime
        self._endpoint = endpoint

    def send(self, source: Source, accept: str, _: float, most: int, /) -> Reply:
        """Return the response for an image."""
        with _errors_of_boto(self._endpoint):
            response = self._runtime.invoke_endpoint(
                EndpointName=self._endpoint, Body=source.data, ContentType=source.content_type, Accept=accept
            )
            with closing(response["Body"]) as stream:
                body = stream.read()
        if len(body) > most:
            raise ServerError(f"The response of {self._endpoint} has {len(body):,} bytes.", status=200)
        return Reply(body, response.get("ContentType") or "")

    def close(self) -> None:
        """Do nothing: the client belongs to the caller."""


@contextmanager
def _errors_of_boto(endpoint: str) -> Iterator[None]:
    """Turn the errors of boto3 within the block into those of this project; others pass.

    They are botocore's ClientError, which has a response, and its BotoCoreError: no connection, no credentials.
    """
    try:
        yield
    except Exception as error:
        content = getattr(error, "response", None)
        if isinstance(content, dict):
            raise _endpoint_error(content) from error
        unanswered = getattr(sys.modules.get("botocore.exceptions"), "BotoCoreError", ())
        if isinstance(error, unanswered):
            raise ServerError(
                f"{endpoint} cannot be called: {one_line(str(error)[:300]).rstrip('.')}.",
                "Check the network, the region and the credentials.",
            ) from error
        raise


def _endpoint_error(content: dict[str, Any]) -> SemsegError:
    """The error for botocore's ClientError; content: its `response`.

    What the model answered is in it only if the model, not the platform, refused the request.
    """
    if original := content.get("OriginalStatusCode"):
        return refusal(int(original), str(content.get("OriginalMessage", "")).encode(errors="replace"))
    error = content.get("Error", {})
    code, status = str(error.get("Code", "")), int(content.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    if code.startswith("Throttl"):
        status = 429  # whatever it was: AWS throttles with 400 too
    return refusal(status, f"{code}: {error.get('Message', '')}".encode(errors="replace"))
