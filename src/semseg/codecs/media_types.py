"""The media types of a request and of its answer: Content-Type and Accept (RFC 9110 sections 8.3 and 12.5.1).

A request's bytes, not its Content-Type, say whether the picture is a JPEG or a PNG: clients that read pictures from
anywhere often declare one and send the other.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from semseg.errors import NotAcceptableError, UnsupportedMediaError

PNG = "image/png"
RECORDIO_PROTOBUF = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"
NPY = "application/x-npy"
JSON = "application/json"

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/x-png", "application/x-image")
"""Of requests; pjpeg and x-png are names that old browsers and Windows give to the same two."""

UNDECLARED_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
"""What says nothing about the body; the third is S3's own, the last is what curl sends unasked."""

LONGEST_ACCEPT = 1 << 14
"""Characters: ten times as many as browsers send."""

_ALIASES = {"image/x-png": PNG, "*": "*/*"}
"""Of ranges; the second is how Java's URLConnection writes it."""

_ELEMENT = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)++')
_PART = re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.)*+"?)++')
"""What lies between commas, and between semicolons, that stand in no quoted string (RFC 9110 section 5.6)."""

_ESCAPED = re.compile(r"\\(.)")
_QUALITY = re.compile(r"0?\.[0-9]+|0\.?|1(?:\.0*)?")


@dataclass(frozen=True)
class Parameter:
    """What a parameter of a media type may be, and what holds where a request leaves it out.

    pattern: of the whole value in small letters; accepts: the values as errors list them; schema: the same in JSON
    Schema's terms. default: None for no parameter; default_beside: other defaults, by the name and value of another
    parameter, which comes before. required: whether the media type cannot be asked for without it.
    """

    pattern: str
    accepts: str
    schema: Mapping[str, object]
    default: str | None = None
    default_beside: Mapping[tuple[str, str], str] = field(default_factory=dict)
    required: bool = False


SHARE = Parameter(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", "0 to 1", {"type": "number", "minimum": 0, "maximum": 1})

Offers = Mapping[str, Mapping[str, Parameter]]
"""Media types that a request may ask for, each with its parameters. The first that requires none is sent when there is
no Accept header; there has to be one."""


def choice(
    *words: str,
    default: str | None = None,
    default_beside: Mapping[tuple[str, str], str] = MappingProxyType({}),
    required: bool = False,
) -> Parameter:
    """A parameter that is one of some words."""
    accepts = "|".join(words)
    return Parameter(accepts, accepts, {"enum": list(words)}, default, default_beside, required)


def with_defaults(given: Mapping[str, str], parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """The values of a media type's parameters: those given, or else the defaults; without those that have none."""
    values: dict[str, str] = {}
    for name, parameter in parameters.items():
        defaults = (parameter.default_beside[other] for other in values.items() if other in parameter.default_beside)
        value = given.get(name, next(defaults, parameter.default))
        if value is not None:
            values[name] = value
    return values


@dataclass(frozen=True)
class Accepted:
    """What an Accept asks for: an offered media type, and those of its parameters that were given."""

    media_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def check_content_type(header: str | None) -> None:
    """Raises UnsupportedMediaError when a request's Content-Type (None: not given) cannot be a picture."""
    if _media_type(header or "") not in IMAGE_TYPES + UNDECLARED_TYPES:
        raise UnsupportedMediaError(
            f"Content-Type {_quoted(header)} is not supported.",
            f"Send the bytes of the image alone, as one of {', '.join(IMAGE_TYPES)}.",
        )


def negotiate_accept(header: str | None, offers: Offers) -> Accepted:
    """What of the offers a request's Accept (None or empty: any) prefers.

    The highest q-value wins, then the more specific range, then the order of the header, then that of the offers.
    Parameters that no offer has, such as ``charset``, are ignored. A range of a type on offer that cannot be met, for
    a bad value say, gives way to other types that are named, but to a wildcard only if that has a higher q-value.
    Raises NotAcceptableError, with all that is on offer, when nothing offered is acceptable or the header has more
    than `LONGEST_ACCEPT` characters. Takes time in proportion to these.
    """
    plain = [media_type for media_type, parameters in offers.items() if not _required(parameters)]
    if not header or not header.strip():
        return Accepted(plain[0])
    if len(header) > LONGEST_ACCEPT:
        raise _not_acceptable(header, f"it has {len(header):,} characters, more than {LONGEST_ACCEPT:,}", offers)
    known = frozenset(name for parameters in offers.values() for name in parameters) | {"q"}
    ranges = [parsed for text in _ELEMENT.findall(header) if (parsed := _parse_range(text, known, offers))]
    faulty = [wanted for wanted in ranges if wanted.fault and wanted.quality]
    wishes = _wishes(ranges, max((wanted.quality for wanted in faulty), default=0))
    named = (kind for kind in wishes if kind.parameters)
    preferred = max((*map(_Kind, plain), *named), key=lambda kind: _wish(kind, wishes))
    if _wish(preferred, wishes).quality == 0:
        reason = faulty[0].fault if faulty else "it names nothing this model answers with"
        raise _not_acceptable(header, reason, offers)
    return Accepted(preferred.media_type, dict(preferred.parameters))


class _Kind(NamedTuple):
    """A media type or a range of them, with its parameters in alphabetical order."""

    media_type: str
    parameters: tuple[tuple[str, str], ...] = ()


class _Wish(NamedTuple):
    """How much an offer is wanted, to be compared field by field."""

    quality: float
    specificity: int
    earliness: int


class _Range(NamedTuple):
    """One element of Accept: `type/subtype`, maybe with parameters, `type/*` or `*/*`, and how much it is wanted.

    fault: why a type on offer cannot be given as it is asked for; empty if it can.
    """

    kind: _Kind
    quality: float
    fault: str = ""


def _wishes(ranges: Sequence[_Range], fault: float) -> Mapping[_Kind, _Wish]:
    """What the ranges without a fault say: of equal ones that of the highest q-value, then the first.

    fault: the highest q-value of a range with one; wildcards of none higher count as refused.
    """
    wishes: dict[_Kind, _Wish] = {}
    for order, (kind, quality, wrong) in enumerate(ranges):
        stars = kind.media_type.count("*")
        if not wrong:
            wanted = 0 if stars and quality <= fault else quality
            wish = _Wish(wanted, 2 - stars + bool(kind.parameters), -order)
            wishes[kind] = max(wish, wishes.get(kind, wish))
    return wishes


def _wish(kind: _Kind, wishes: Mapping[_Kind, _Wish]) -> _Wish:
    """What the most specific range that matches an offer says of it."""
    media_type = kind.media_type
    matching = (kind, _Kind(media_type), _Kind(media_type.partition("/")[0] + "/*"), _Kind("*/*"))
    return next((wishes[one] for one in matching if one in wishes), _Wish(0, 0, 0))


def _parse_range(text: str, known: Container[str], offers: Offers) -> _Range | None:
    """One element of Accept; None for what is no range. Of its parameters those of known names count."""
    media_type, _, rest = text.partition(";")
    media_type = media_type.strip().lower()
    media_type = _ALIASES.get(media_type, media_type)
    parameters: dict[str, str] = {}
    twice = ""
    for part in _PART.findall(rest):
        name, _, value = (side.strip().lower() for side in part.partition("="))
        if name in parameters:
            twice = name
        elif name in known:
            parameters[name] = _unquoted(value)
    share = parameters.pop("q", "1")
    sound = _QUALITY.fullmatch(share) is not None
    quality = float(share) if sound else 1.0
    if "/" not in media_type or not (sound or media_type in offers):
        return None
    if media_type not in offers:
        return _Range(_Kind(media_type), quality)
    fault = f"{twice} of {media_type} is given twice" if twice else _fault(media_type, parameters, offers[media_type])
    fault = fault if sound else f"q of {media_type} is {_quoted(share)}, not 0 to 1"
    return _Range(_Kind(media_type, tuple(sorted(parameters.items()))), quality, fault)


def _fault(media_type: str, parameters: Mapping[str, str], offered: Mapping[str, Parameter]) -> str:
    """What is wrong with the parameters of an offered media type, or nothing."""
    for name, value in parameters.items():
        if name not in offered:
            return f"{media_type} has no parameter {_quoted(name)}"
        if not re.fullmatch(offered[name].pattern, value):
            return f"{name} of {media_type} is {_quoted(value)}, not {offered[name].accepts}"
    missing = [name for name in _required(offered) if name not in parameters]
    return f"{missing[0]} of {media_type} is missing" if missing else ""


def _required(parameters: Mapping[str, Parameter]) -> list[str]:
    """The names of those parameters without which a media type cannot be asked for."""
    return [name for name, parameter in parameters.items() if parameter.required]


def _unquoted(value: str) -> str:
    """What a quoted string stands for; anything else stands for itself."""
    return _ESCAPED.sub(r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value


def _not_acceptable(header: str, reason: str, offers: Offers) -> NotAcceptableError:
    return NotAcceptableError(
        f"Accept {_quoted(header)} cannot be met: {reason}.", f"Ask for {', '.join(map(_listed, offers.items()))}."
    )


def _listed(offer: tuple[str, Mapping[str, Parameter]]) -> str:
    """An offer as errors list it: `image/png (palette=voc|ade20k)`."""
    media_type, parameters = offer
    each = "; ".join(f"{name}={parameter.accepts}" for name, parameter in parameters.items())
    return f"{media_type} ({each})" if each else media_type


def _media_type(text: str) -> str:
    """`Type/Subtype; parameter=value` as `type/subtype`."""
    return text.partition(";")[0].strip().lower()


def _quoted(header: str | None) -> str:
    """A header's value, cut to what fits an error message."""
    text = header or ""
    return repr(text if len(text) <= 100 else text[:97] + "...")
