"""openapi.json says what the code does, no less and no more."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from semseg.codecs.media_types import IMAGE_TYPES, LONGEST_ACCEPT, SHARE, Parameter
from semseg.errors import SemsegError
from semseg.inference.load import LoadedModel
from semseg.serving import app as app_module
from semseg.serving.answers import OFFERS, answer_to
from semseg.serving.app import create_app
from semseg.serving.codings import ACCEPTED
from semseg.serving.engine import Engine
from semseg.serving.settings import Settings
from semseg.version import __version__

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def app(model: LoadedModel) -> Any:
    return create_app(Engine(lambda: model, queue=9), Settings(model.description.params.parent))


@pytest.fixture
def described(app: Any) -> Any:
    """What the server sends."""
    response = app.test_client().get("/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    return response.json


def all_errors(error: type[SemsegError] = SemsegError) -> Iterator[type[SemsegError]]:
    yield error
    for kind in error.__subclasses__():
        yield from all_errors(kind)


def schema_of(parameter: Parameter) -> dict[str, Any]:
    if parameter == SHARE:
        return {"type": "number", "minimum": 0, "maximum": 1}
    return {"enum": parameter.told.split("|")}


def test_it_is_of_this_version(described: Any) -> None:
    assert described["openapi"].startswith("3.1.")
    assert described["info"]["version"] == __version__


def test_it_has_the_routes_and_methods_of_the_code(app: Any, described: Any) -> None:
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    told = {(path, method) for path, item in described["paths"].items() for method in METHODS & set(item)}
    assert told == routes


def test_it_has_the_media_types_and_parameters_of_the_code(described: Any) -> None:
    operation = described["paths"]["/invocations"]["post"]
    told = {
        media_type: {
            name: {key: value for key, value in schema.items() if key != "default"}
            for name, schema in content["x-accept-parameters"].items()
        }
        for media_type, content in operation["responses"]["200"]["content"].items()
    }
    assert told == {
        media_type: {name: schema_of(parameter) for name, parameter in parameters.items()}
        for media_type, parameters in OFFERS.items()
    }
    assert next(iter(told)) == answer_to(None).media_type
    assert set(operation["requestBody"]["content"]) == {*IMAGE_TYPES, "application/octet-stream", "binary/octet-stream"}


def test_it_has_the_codings_and_limits_of_the_code(described: Any) -> None:
    responses = described["components"]["responses"]
    assert responses["UnsupportedMediaType"]["headers"]["Accept-Encoding"]["schema"] == {"const": ACCEPTED}
    assert f"{LONGEST_ACCEPT:,} characters" in responses["NotAcceptable"]["description"]


def test_every_default_is_what_holds_without_the_parameter(described: Any) -> None:
    contents = described["paths"]["/invocations"]["post"]["responses"]["200"]["content"]
    for media_type, content in contents.items():
        bare = answer_to(media_type)
        for name, schema in content["x-accept-parameters"].items():
            if "default" in schema:
                named = answer_to(f"{media_type}; {name}={schema['default']}")
                others = [answer_to(f"{media_type}; {name}={word}") for word in schema["enum"]]
                assert named.memory(254) == bare.memory(254), name
                assert len({answer.memory(254) for answer in others}) == len(others), name


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
            packed.read("semseg/serving/openapi.json")
            == Path(app_module.__file__).with_name("openapi.json").read_bytes()
        )
