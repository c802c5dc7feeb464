"""Sends an image to a SageMaker endpoint, through a client of boto3 that the caller has made."""

from __future__ import annotations

from typing import Any, Protocol

from semseg.client.refusals import refusal
from semseg.client.sources import Source
from semseg.client.transport import Reply
from semseg.errors import SemsegError, ServerError


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
        """Return the response for an image. Errors of boto3 that are not the platform's response pass as they are."""
        try:
            response = self._runtime.invoke_endpoint(
                EndpointName=self._endpoint, Body=source.data, ContentType=source.content_type, Accept=accept
            )
        except Exception as error:
            content = getattr(error, "response", None)
            if not isinstance(content, dict):
                raise
            raise _endpoint_error(content) from error
        stream = response["Body"]
        try:
            body = stream.read()
        finally:
            stream.close()
        if len(body) > most:
            raise ServerError(f"The response of {self._endpoint} has {len(body):,} bytes.", status=200)
        return Reply(body, response.get("ContentType") or "")

    def close(self) -> None:
        """Do nothing: the client belongs to the caller."""


def _endpoint_error(content: dict[str, Any]) -> SemsegError:
    """The error for botocore's ClientError; content: its `response`.

    What the model answered is in it only if the model, not the platform, refused the request.
    """
    if original := content.get("OriginalStatusCode"):
        return refusal(int(original), str(content.get("OriginalMessage", "")).encode())
    error = content.get("Error", {})
    status = int(content.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    return refusal(status, f"{error.get('Code', '')}: {error.get('Message', '')}".encode())
