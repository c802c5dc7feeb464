from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from fake_endpoint import Asked, FakeRuntime, Response

from semseg.client.endpoint import EndpointTransport
from semseg.client.sources import load
from semseg.errors import BusyError, RequestError, SemsegError, ServerError, TooLargeError
from semseg.types import UInt8


class ClientError(Exception):
    """As botocore raises it."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__("An error occurred")
        self.response = response


def test_the_image_goes_to_the_endpoint_and_the_stream_is_closed(runtime: FakeRuntime, image: UInt8) -> None:
    source = load(image)
    reply = EndpointTransport(runtime, "cats").send(source, "image/png", 10, 10**6)
    assert reply.content_type == "image/png"
    assert reply.body.startswith(b"\x89PNG")
    assert [(asked.body, asked.headers["Content-Type"]) for asked in runtime.asked] == [(source.data, "image/png")]
    assert runtime.closed == 1


def error_of(runtime: FakeRuntime, image: UInt8, response: dict[str, Any]) -> SemsegError:
    def fail(_: Asked) -> Response:
        raise ClientError(response)

    runtime.answer = fail
    with pytest.raises(SemsegError) as caught:
        EndpointTransport(runtime, "cats").send(load(image), "image/png", 10, 10**6)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"), [(503, BusyError), (413, TooLargeError), (400, RequestError), (500, ServerError)]
)
def test_what_the_model_refuses_is_its_own_error(
    runtime: FakeRuntime, image: UInt8, status: int, kind: type[SemsegError]
) -> None:
    response = {
        "Error": {"Code": "ModelError", "Message": "Received server error (503) from model with message ..."},
        "OriginalStatusCode": status,
        "OriginalMessage": '{"error": "The queue is full.", "hint": "Try again."}',
        "ResponseMetadata": {"HTTPStatusCode": 424},
    }
    error = error_of(runtime, image, response)
    assert type(error) is kind
    assert str(error) == "The queue is full. Try again."


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 429, BusyError),
        ("ThrottlingException", 400, BusyError),
        ("ServiceUnavailable", 503, BusyError),
        ("ModelNotReadyException", 429, BusyError),
        ("ValidationError", 400, RequestError),
        ("InternalFailure", 500, ServerError),
    ],
)
def test_what_the_platform_refuses_is_quoted(
    runtime: FakeRuntime, image: UInt8, code: str, status: int, kind: type[SemsegError]
) -> None:
    response = {"Error": {"Code": code, "Message": "Why."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = error_of(runtime, image, response)
    assert type(error) is kind
    shown = 429 if kind is BusyError and status == 400 else status
    assert str(error) == f"The server answered {shown}: {code}: Why."


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://runtime.sagemaker"),
        ReadTimeoutError(endpoint_url="https://runtime.sagemaker"),
        NoCredentialsError(),
    ],
)
def test_no_response_is_an_error_that_names_the_endpoint(runtime: FakeRuntime, image: UInt8, error: Exception) -> None:
    def fail(_: Asked) -> Response:
        raise error

    runtime.answer = fail
    with pytest.raises(ServerError, match=r"^cats cannot be called: .+[^.]\. Check the network"):
        EndpointTransport(runtime, "cats").send(load(image), "image/png", 10, 10**6)


def test_other_errors_pass(runtime: FakeRuntime, image: UInt8) -> None:
    def fail(_: Asked) -> Response:
        raise ConnectionError("Could not connect to the endpoint URL")

    runtime.answer = fail
    with pytest.raises(ConnectionError):
        EndpointTransport(runtime, "cats").send(load(image), "image/png", 10, 10**6)


def test_a_response_that_is_too_long_is_an_error(runtime: FakeRuntime, image: UInt8) -> None:
    with pytest.raises(ServerError, match=r"The response of cats has \d+ bytes"):
        EndpointTransport(runtime, "cats").send(load(image), "image/png", 10, 20)
    assert runtime.closed == 1
