from __future__ import annotations

import abc
import io
import sys
import types

import numpy as np
import pytest
from fake_endpoint import probabilities_of

from semseg.client import ImageSerializer, SegmentationDeserializer
from semseg.codecs.images import encode_image
from semseg.codecs.masks import encode_mask
from semseg.codecs.tensors import encode_probabilities
from semseg.errors import NotAcceptableError, ServerError
from semseg.types import UInt8


def test_an_image_is_serialized_to_its_file(image: UInt8) -> None:
    data = encode_image(image)
    assert ImageSerializer().serialize(data) == data
    assert ImageSerializer().serialize(image) == data
    assert ImageSerializer().CONTENT_TYPE == "application/x-image"


def test_a_response_is_deserialized_and_its_stream_closed(image: UInt8) -> None:
    stream = io.BytesIO(b"".join(encode_probabilities(probabilities_of(image))))
    deserializer = SegmentationDeserializer()
    assert deserializer.ACCEPT == ("application/x-recordio-protobuf",)
    found = deserializer.deserialize(stream, "application/x-recordio-protobuf")
    np.testing.assert_array_equal(found.probabilities, probabilities_of(image))
    assert stream.closed


def test_a_mask_can_be_asked_for(image: UInt8) -> None:
    ids = probabilities_of(image).argmax(axis=0).astype(np.uint8)
    deserializer = SegmentationDeserializer("image/png")
    assert deserializer.ACCEPT == ("image/png",)
    found = deserializer.deserialize(io.BytesIO(encode_mask(ids)), "image/png")
    np.testing.assert_array_equal(found.mask, ids)
    assert found.overlay(image=image).shape == image.shape


def test_errors_are_the_client_s() -> None:
    with pytest.raises(NotAcceptableError):
        SegmentationDeserializer("text/csv")
    stream = io.BytesIO(b"not a record")
    with pytest.raises(ServerError):
        SegmentationDeserializer().deserialize(stream, "application/x-recordio-protobuf")
    assert stream.closed


def test_they_are_instances_of_the_sdk_s_classes_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Endpoint` of version 3 requires of its fields."""
    for kind in ("Serializer", "Deserializer"):
        base = abc.ABCMeta(f"Base{kind}", (), {})
        module = types.ModuleType(f"sagemaker.core.{kind.lower()}s.base")
        setattr(module, base.__name__, base)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        made = ImageSerializer() if kind == "Serializer" else SegmentationDeserializer()
        assert isinstance(made, base)
