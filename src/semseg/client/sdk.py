"""A serializer and a deserializer for predictors and endpoints of SageMaker's Python SDK, versions 2 and 3.

They have the methods of the SDK's base classes and do without the SDK itself. Version 3 checks serializers with
isinstance: they count as its own if it has been imported before they are made.
"""

from __future__ import annotations

import sys
from typing import Protocol

from semseg.client.answers import decode, wanted
from semseg.client.segmentation import Segmentation
from semseg.client.sources import load
from semseg.codecs.image_like import ImageLike
from semseg.codecs.media_types import RECORDIO_PROTOBUF

_MODULES = (
    "sagemaker.base_serializers",
    "sagemaker.base_deserializers",
    "sagemaker.core.serializers.base",
    "sagemaker.core.deserializers.base",
)
"""Where versions 2 and 3 have their abstract classes."""


class Stream(Protocol):
    """The body of a response, as botocore gives it."""

    def read(self) -> bytes:
        """Return all of it."""
        ...

    def close(self) -> None:
        """End the response."""
        ...


class ImageSerializer:
    """Sends an image: the path of a JPEG or PNG file, its bytes, a Pillow image, or pixels, uint8 (H, W, 3)."""

    CONTENT_TYPE = "application/x-image"  # of JPEG and PNG alike; the server, as the built-in one, reads the bytes

    def __init__(self) -> None:
        _register("BaseSerializer", type(self))

    def serialize(self, data: ImageLike) -> bytes:
        """Return the image as a file. Raises ImageError for one that cannot be read."""
        return load(data).data


class SegmentationDeserializer:
    """Decodes responses to `Segmentation`, by default those with the probabilities of all classes."""

    def __init__(self, accept: str = RECORDIO_PROTOBUF) -> None:
        """accept: the response to ask for, such as ``image/png``. Raises NotAcceptableError for an unknown one."""
        self._asked = wanted(accept)
        _register("BaseDeserializer", type(self))

    @property
    def ACCEPT(self) -> tuple[str]:  # noqa: N802 - the SDK's name
        """The media types to ask for."""
        return (self._asked.accept,)

    def deserialize(self, stream: Stream, content_type: str) -> Segmentation:
        """Return the decoded response, and close the stream. Raises ServerError if it cannot be decoded."""
        try:
            body = stream.read()
        finally:
            stream.close()
        return Segmentation(None, decode(body, content_type, self._asked))


def _register(base: str, kind: type) -> None:
    """Make a class count as a subclass of the SDK's abstract class of this name, where that is imported."""
    for name in _MODULES:
        abstract = getattr(sys.modules.get(name), base, None)
        if abstract is not None:
            abstract.register(kind)
