"""The media types of a request and of its answer: Content-Type and Accept (RFC 9110 sections 8.3 and 12.5.1).

A request's bytes, not its Content-Type, say whether the picture is a JPEG or a PNG: clients that read pictures from
anywhere often declare one and send the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from semseg.errors import NotAcceptableError, UnsupportedMediaError

PNG = "image/png"
RECORDIO_PROTOBUF = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"
NPY = "application/x-npy"
JSON = "application/json"

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "application/x-image")

UNDECLARED_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
"""What says nothing about the body; the third is S3's own, the last is what curl sends unasked."""


@dataclass(frozen=True)
class Parameter:
    """What a parameter of a media type may be: a pattern for the whole value in small letters, and how it is told."""

    pattern: str
    told: str


SHARE = Parameter(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", "0 to 1")

Offers = Mapping[str, Mapping[str, Parameter]]
"""Media types that a request may ask for, each with its parameters; the first is the answer to no wish at all."""


def choice(*words: str) -> Parameter:
    """A parameter that is one of some words."""
    return Parameter("|".join(words), "|".join(words))


@dataclass(frozen=True)
class Accepted:
    """What an Accept asks for: an offered media type, and those of its parameters that were given."""

    media_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def check_content_type(header: str | None) -> None:
    """Raises UnsupportedMediaError when a request's Content-Type (None: not given) cannot be a picture."""
    if _media_type(header or "") not in IMAGE_TYPES + UNDECLARED_TYPES:
        raise UnsupportedMediaError(
            f"Content-Type {_quoted(header)} is not supported.", f"Send one of {', '.join(IMAGE_TYPES)}."
        )


def negotiate_accept(header: str | None, offers: Offers) -> Accepted:
    """What of the offers a request's Accept (None or empty: any) prefers.

    The highest q-value wins, then the more specific range, then the order of the header, then that of the offers.
    A range that cannot be parsed is passed over, and so is one with a parameter or value that is not on offer. Raises
    NotAcceptableError, with all that is, when nothing offered is acceptable.
    """
    if not header or not header.strip():
        return Accepted(next(iter(offers)))
    ranges = [parsed for order, text in enumerate(header.split(",")) if (parsed := _parse_range(text, order))]
    faults = [_fault(wanted, offers) for wanted in ranges]
    sound = [wanted for wanted, fault in zip(ranges, faults, strict=True) if not fault]
    candidates = [Accepted(media_type) for media_type in offers]
    candidates += [
        Accepted(wanted.media_type, wanted.parameters)
        for wanted in sound
        if wanted.parameters and wanted.media_type in offers
    ]
    preferred = max(candidates, key=lambda candidate: _wish(candidate, sound))
    if _wish(preferred, sound).quality == 0:
        reason = next(filter(None, faults), "it names nothing this model answers with")
        raise NotAcceptableError(
            f"Accept {_quoted(header)} cannot be met: {reason}.", f"Ask for {', '.join(map(_told, offers.items()))}."
        )
    return preferred


class _Wish(NamedTuple):
    """How much an offer is wanted, to be compared field by field."""

    quality: float
    specificity: int
    earliness: int


@dataclass(frozen=True)
class _Range:
    """One element of Accept: `type/subtype`, maybe with parameters, `type/*` or `*/*`, and how much it is wanted."""

    media_type: str
    parameters: Mapping[str, str]
    quality: float
    order: int

    @property
    def specificity(self) -> int:
        return 2 - self.media_type.count("*") + bool(self.parameters)

    def matches(self, candidate: Accepted) -> bool:
        if self.parameters:
            return (self.media_type, self.parameters) == (candidate.media_type, candidate.parameters)
        return self.media_type in (candidate.media_type, candidate.media_type.partition("/")[0] + "/*", "*/*")


def _wish(candidate: Accepted, ranges: list[_Range]) -> _Wish:
    """What the most specific range that matches a candidate says of it."""
    matching = [
        _Wish(wanted.quality, wanted.specificity, -wanted.order) for wanted in ranges if wanted.matches(candidate)
    ]
    return max(matching, key=lambda wish: (wish.specificity, wish.quality), default=_Wish(0, 0, 0))


def _fault(wanted: _Range, offers: Offers) -> str:
    """What is wrong with the parameters of an offered media type, or nothing."""
    known = offers.get(wanted.media_type, {})
    for name, value in wanted.parameters.items():
        if wanted.media_type in offers and name not in known:
            return f"{wanted.media_type} has no parameter {_quoted(name)}"
        if name in known and not re.fullmatch(known[name].pattern, value):
            return f"{name} of {wanted.media_type} is {_quoted(value)}, not {known[name].told}"
    return ""


def _parse_range(text: str, order: int) -> _Range | None:
    """One element of Accept; None when it is malformed. Wildcards have no parameters."""
    media_type = _media_type(text)
    parameters: dict[str, str] = {}
    for parameter in filter(str.strip, text.split(";")[1:]):
        name, _, value = (part.strip().lower() for part in parameter.partition("="))
        if name in parameters:
            return None
        parameters[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        return None
    if "/" not in media_type or not 0 <= quality <= 1:
        return None
    return _Range(media_type, {} if "*" in media_type else parameters, quality, order)


def _told(offer: tuple[str, Mapping[str, Parameter]]) -> str:
    """An offer as errors name it: `image/png (palette=voc|ade20k)`."""
    media_type, parameters = offer
    each = "; ".join(f"{name}={parameter.told}" for name, parameter in parameters.items())
    return f"{media_type} ({each})" if each else media_type


def _media_type(text: str) -> str:
    """`Type/Subtype; parameter=value` as `type/subtype`."""
    return text.partition(";")[0].strip().lower()


def _quoted(header: str | None) -> str:
    """A header's value, cut to what fits an error message."""
    text = header or ""
    return repr(text if len(text) <= 100 else text[:97] + "...")
