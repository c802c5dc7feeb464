"""The OpenAPI description of the HTTP interface: the file openapi.json, completed from the tables in the code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from semseg.codecs.media_types import Parameter
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.serving.answers import COMMON, Offer
from semseg.version import __version__


def description(offers: Mapping[str, Offer]) -> str:
    """The JSON text, with the version, the networks and backbones, and the media types of answers filled in."""
    text = Path(__file__).with_name("openapi.json").read_text().replace("{version}", __version__)
    for placeholder, definitions in (("{networks}", NETWORKS), ("{backbones}", BACKBONES)):
        text = text.replace(placeholder, '", "'.join(definition.name for definition in definitions))
    answers = {media_type: _content(offer) for media_type, offer in offers.items()}
    common = {name: _schema(parameter) for name, parameter in COMMON.items()}
    return text.replace('"{answers}"', json.dumps(answers)).replace('"{common}"', json.dumps(common))


def _content(offer: Offer) -> dict[str, object]:
    parameters = {name: _schema(parameter) for name, parameter in offer.parameters.items()}
    return {"schema": offer.schema, "x-accept-parameters": parameters}


def _schema(parameter: Parameter) -> dict[str, object]:
    schema = dict(parameter.schema)
    if parameter.default is not None:
        schema["default"] = parameter.default
    return schema
