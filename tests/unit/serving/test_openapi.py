"""openapi.json describes exactly what the code does."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from semseg.codecs.media_types import FORM, IMAGE_TYPES, LONGEST_ACCEPT, choice
from semseg.errors import SemsegError
from semseg.inference.load import LoadedModel
from semseg.serving import openapi
from semseg.serving.answers import COMMON, OFFERS, Offer, Segmented, answer_to
from semseg.serving.app import create_app
from semseg.serving.codings import ACCEPTED
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.openapi import description
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.settings import Settings
from semseg.version import __version__

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def app(model: LoadedModel) -> Any:
    queue = PredictionQueue(lambda: model, max_waiting=9)
    return create_app(queue, Settings(model.description.params.parent), MemoryBudget())


@pytest.fixture
def described(app: Any) -> Any:
    """The description that the server sends."""
    response = app.test_client().get("/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    return response.json


def all_errors(error: type[SemsegError] = SemsegError) -> Iterator[type[SemsegError]]:
    yield error
    for kind in error.__subclasses__():
        yield from all_errors(kind)


def test_it_is_of_this_version(described: Any) -> None:
    assert described["openapi"].startswith("3.1.")
    assert described["info"]["version"] == __version__


def test_it_has_the_routes_and_methods_of_the_code(app: Any, described: Any) -> None:
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    listed = {(path, method) for path, item in described["paths"].items() for method in METHODS & set(item)}
    assert listed == routes


def test_it_has_the_media_types_and_parameters_of_the_code(described: Any) -> None:
    operation = described["paths"]["/invocations"]["post"]
    contents = operation["responses"]["200"]["content"]
    assert {media_type: set(content["x-accept-parameters"]) for media_type, content in contents.items()} == {
        media_type: set(offer.parameters) for media_type, offer in OFFERS.items()
    }
    assert contents["image/png"]["x-accept-parameters"] == {
        "palette": {"enum": ["voc", "ade20k", "cityscapes", "model"]},
        "overlay": {"type": "number", "minimum": 0, "maximum": 1},
        "legend": {"enum": ["false", "true"], "default": "false"},
    }
    assert set(operation["responses"]["200"]["x-accept-parameters"]) == set(COMMON)
    assert next(iter(contents)) == answer_to(None).media_type
    unspecific = {"application/octet-stream", "binary/octet-stream"}
    assert set(operation["requestBody"]["content"]) == {*IMAGE_TYPES, *unspecific, FORM}


@pytest.mark.parametrize("media_type", OFFERS)
def test_every_value_that_is_listed_is_answered_under_its_media_type(described: Any, media_type: str) -> None:
    content = described["paths"]["/invocations"]["post"]["responses"]["200"]["content"][media_type]
    for name, schema in content["x-accept-parameters"].items():
        for value in schema.get("enum", [schema.get("minimum"), schema.get("maximum")]):
            assert answer_to(f"{media_type}; {name}={value}").media_type == media_type


def test_a_response_type_is_described_with_its_parameters() -> None:
    parameters = {"size": choice("1", "2", default="1")}
    offer = Offer(parameters, OFFERS["image/png"].build, {"description": "Of a size."})
    described = json.loads(description({"image/x": offer}))
    assert described["paths"]["/invocations"]["post"]["responses"]["200"]["content"]["image/x"] == {
        "schema": {"description": "Of a size."},
        "x-accept-parameters": {"size": {"enum": ["1", "2"], "default": "1"}},
    }


def test_it_has_the_codings_and_limits_of_the_code(described: Any) -> None:
    responses = described["components"]["responses"]
    assert responses["UnsupportedMediaType"]["headers"]["Accept-Encoding"]["schema"] == {"const": ACCEPTED}
    assert f"{LONGEST_ACCEPT:,} characters" in responses["NotAcceptable"]["description"]


def test_every_default_is_what_holds_without_the_parameter(described: Any, model: LoadedModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    done = Segmented(image, model.predictor.predict(image), model.description)

    def sent(accept: str) -> bytes:
        return b"".join(answer_to(accept).encode(done))

    contents = described["paths"]["/invocations"]["post"]["responses"]["200"]["content"]
    for media_type, content in contents.items():
        for name, schema in content["x-accept-parameters"].items():
            if "default" in schema:
                bytes_of = {word: sent(f"{media_type}; {name}={word}") for word in schema["enum"]}
                assert bytes_of[schema["default"]] == sent(media_type), name
                assert len(set(bytes_of.values())) == len(bytes_of), name


def test_it_has_the_statuses_of_all_errors(described: Any) -> None:
    responses = set(described["paths"]["/invocations"]["post"]["responses"])
    assert responses == {"200", "204", "503"} | {str(error.http_status) for error in all_errors()}


def test_every_reference_leads_somewhere(described: Any) -> None:
    for reference in set(json.dumps(described).split('"$ref": "#/')[1:]):
        place = described
        for key in reference.partition('"')[0].split("/"):
            place = place[key]
        assert place


def test_it_is_in_the_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(Path(__file__).parents[3])).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        assert (
            packed.read("semseg/serving/openapi.json") == Path(openapi.__file__).with_name("openapi.json").read_bytes()
        )
