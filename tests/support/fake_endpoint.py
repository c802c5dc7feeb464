"""Doubles of a server and of a SageMaker endpoint, for tests of the client."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from semseg.codecs.images import decode_image
from semseg.codecs.masks import encode_mask
from semseg.codecs.npy import encode_npy
from semseg.codecs.tensors import encode_probabilities
from semseg.types import Float32, UInt8

CLASSES = 3


def probabilities_of(pixels: UInt8) -> Float32:
    """The probabilities of three classes that are the shares of red, green and blue: float32 (3, H, W)."""
    shares = pixels.transpose(2, 0, 1).astype(np.float32) + 1
    return np.ascontiguousarray(shares / shares.sum(axis=0))


def encoded(pixels: UInt8, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


@dataclass
class Asked:
    """One request that a server or an endpoint got."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def pixels(self) -> UInt8:
        return decode_image(self.body)


Response = tuple[int, Mapping[str, str], bytes]


def model_answers(asked: Asked) -> Response:
    """What a server of the model of `probabilities_of` answers."""
    probabilities, accept = probabilities_of(asked.pixels), asked.headers["Accept"]
    if accept == "image/png":
        body = encode_mask(probabilities.argmax(axis=0).astype(np.uint8))
    elif accept == "application/x-npy; values=confidence":
        ids, best = probabilities.argmax(axis=0), probabilities.max(axis=0)
        body = b"".join(encode_npy(np.stack([ids.astype(np.float32), best])))
    else:
        body = b"".join(encode_probabilities(probabilities))
    return 200, {"Content-Type": accept.partition(";")[0]}, body


@dataclass
class FakeServer:
    """An HTTP server in this process. answer: what it does with a request; asked: the requests so far."""

    url: str
    answer: Callable[[Asked], Response | None] = model_answers
    asked: list[Asked] = field(default_factory=list)


class FakeRuntime:
    """What `boto3.client("sagemaker-runtime")` returns, for an endpoint of the model of `probabilities_of`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Response] = model_answers
        self.closed = 0

    def invoke_endpoint(self, **arguments: Any) -> Any:
        assert set(arguments) == {"EndpointName", "Body", "ContentType", "Accept"}
        assert arguments["EndpointName"] == "cats"
        request = Asked(arguments["Body"], {"Accept": arguments["Accept"], "Content-Type": arguments["ContentType"]})
        self.asked.append(request)
        _, headers, body = self.answer(request)
        stream, runtime = io.BytesIO(body), self

        class Stream:
            def read(self) -> bytes:
                return stream.read()

            def close(self) -> None:
                runtime.closed += 1

        return {"Body": Stream(), "ContentType": headers.get("Content-Type")}
