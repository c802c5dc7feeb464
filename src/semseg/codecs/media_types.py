"""Checks the media type of a request and chooses that of its response (RFC 9110 sections 8.3 and 12.5.1).

The bytes of a request, not its Content-Type, decide whether the image is a JPEG or a PNG: clients often declare one and
send the other.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from semseg.errors import NotAcceptableError, UnsupportedMediaError

PNG = "image/png"
RECORDIO_PROTOBUF = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"
NPY = "application/x-npy"
JSON = "application/json"

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/x-png", "application/x-image")
"""Content types of images; pjpeg and x-png are names that old browsers and Windows use for JPEG and PNG."""

FORM = "multipart/form-data"
"""The content type of a form, which may hold an image as a file."""

UNDECLARED_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
"""Content types that say nothing about the body; binary/ is S3's, and curl sends the last one by default."""

LONGEST_ACCEPT = 1 << 14
"""Limit in characters, ten times as many as browsers send."""

_ALIASES = {"image/x-png": PNG, "*": "*/*"}
"""Other spellings of ranges; Java's URLConnection writes `*`."""

_ELEMENT = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)++')
_PART = re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.)*+"?)++')
"""The text between commas, and between semicolons, outside quoted strings (RFC 9110 section 5.6)."""

_ESCAPED = re.compile(r"\\(.)")
_QUALITY = re.compile(r"0?\.[0-9]+|0\.?|1(?:\.0*)?")


@dataclass(frozen=True)
class Parameter:
    """The values that a parameter of a media type may have, and its default.

    pattern: matches a whole value in lower case; accepts: the values as errors list them; schema: the same as JSON
    Schema; default: None for none.
    """

    pattern: str
    accepts: str
    schema: Mapping[str, object]
    default: str | None = None


SHARE = Parameter(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", "0 to 1", {"type": "number", "minimum": 0, "maximum": 1})

Offers = Mapping[str, Mapping[str, Parameter]]
"""The media types on offer, at least one, each with its parameters. The first is sent without an Accept header."""


def choice(*words: str, default: str | None = None) -> Parameter:
    """Return a parameter whose value is one of `words`."""
    accepts = "|".join(words)
    return Parameter(accepts, accepts, {"enum": list(words)}, default)


def with_defaults(given: Mapping[str, str], parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """Return the given parameters completed with defaults; parameters with neither are left out."""
    defaults = {name: parameter.default for name, parameter in parameters.items() if parameter.default is not None}
    return defaults | dict(given)


@dataclass(frozen=True)
class Accepted:
    """The chosen response: an offered media type, and the parameters that the request gave for it."""

    media_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def check_content_type(header: str | None) -> None:
    """Raise UnsupportedMediaError if a request's Content-Type (None: not given) rules out an image."""
    if _media_type(header or "") not in IMAGE_TYPES + UNDECLARED_TYPES:
        raise UnsupportedMediaError(
            f"Content-Type {_quoted(header)} is not supported.",
            f"Send the bytes of the image alone, as one of {', '.join(IMAGE_TYPES)}, or the only file of {FORM}.",
        )


def negotiate_accept(header: str | None, offers: Offers) -> Accepted:
    """Return the offer that a request's Accept header prefers, or the default one if it is None or empty.

    The highest q-value wins, then the more specific range, then the order of the header, then that of the offers.
    Parameters that no offer has, such as ``charset``, are ignored. If a range of an offered type cannot be met, for
    example because of an invalid parameter, the other types named are considered, but a wildcard only if it has a
    higher q-value.
    Raises NotAcceptableError, which lists the offers, if none is acceptable or the header has more than
    `LONGEST_ACCEPT` characters. Takes time linear in these.
    """
    if not header or not header.strip():
        return Accepted(next(iter(offers)))
    if len(header) > LONGEST_ACCEPT:
        raise _not_acceptable(header, f"it has {len(header):,} characters, more than {LONGEST_ACCEPT:,}", offers)
    known = frozenset(name for parameters in offers.values() for name in parameters) | {"q"}
    ranges = [parsed for text in _ELEMENT.findall(header) if (parsed := _parse_range(text, known, offers))]
    faulty = [wanted for wanted in ranges if wanted.fault and wanted.quality]
    preferences = _preferences(ranges, max((wanted.quality for wanted in faulty), default=0))
    named = (kind for kind in preferences if kind.parameters)
    preferred = max((*map(_Kind, offers), *named), key=lambda kind: _preference(kind, preferences))
    if _preference(preferred, preferences).quality == 0:
        reason = faulty[0].fault if faulty else "it names nothing this model answers with"
        raise _not_acceptable(header, reason, offers)
    return Accepted(preferred.media_type, dict(preferred.parameters))


class _Kind(NamedTuple):
    """A media type or a range of them, with its parameters in alphabetical order."""

    media_type: str
    parameters: tuple[tuple[str, str], ...] = ()


class _Preference(NamedTuple):
    """How strongly a request prefers an offer, compared field by field."""

    quality: float
    specificity: int
    earliness: int


class _Range(NamedTuple):
    """One element of Accept: `type/subtype` with optional parameters, `type/*` or `*/*`, and its q-value.

    fault: why an offered type cannot be sent as requested; empty if it can.
    """

    kind: _Kind
    quality: float
    fault: str = ""


def _preferences(ranges: Sequence[_Range], faulty_quality: float) -> Mapping[_Kind, _Preference]:
    """The preference of each range without a fault; of equal ranges, that of the highest q-value, then the first.

    faulty_quality: the highest q-value of a range with a fault; wildcards that do not exceed it count as refused.
    """
    preferences: dict[_Kind, _Preference] = {}
    for order, (kind, quality, fault) in enumerate(ranges):
        stars = kind.media_type.count("*")
        if not fault:
            effective = 0 if stars and quality <= faulty_quality else quality
            preference = _Preference(effective, 2 - stars + bool(kind.parameters), -order)
            preferences[kind] = max(preference, preferences.get(kind, preference))
    return preferences


def _preference(kind: _Kind, preferences: Mapping[_Kind, _Preference]) -> _Preference:
    """The preference of the most specific range that matches an offer."""
    media_type = kind.media_type
    matching = (kind, _Kind(media_type), _Kind(media_type.partition("/")[0] + "/*"), _Kind("*/*"))
    return next((preferences[pattern] for pattern in matching if pattern in preferences), _Preference(0, 0, 0))


def _parse_range(text: str, known: Container[str], offers: Offers) -> _Range | None:
    """Parse one element of Accept, None if it is no range. Parameters of unknown names are ignored."""
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
    q = parameters.pop("q", "1")
    valid = _QUALITY.fullmatch(q) is not None
    quality = float(q) if valid else 1.0
    if "/" not in media_type or not (valid or media_type in offers):
        return None
    if media_type not in offers:
        return _Range(_Kind(media_type), quality)
    fault = f"{twice} of {media_type} is given twice" if twice else _fault(media_type, parameters, offers[media_type])
    fault = fault if valid else f"q of {media_type} is {_quoted(q)}, not 0 to 1"
    return _Range(_Kind(media_type, tuple(sorted(parameters.items()))), quality, fault)


def _fault(media_type: str, parameters: Mapping[str, str], offered: Mapping[str, Parameter]) -> str:
    """What is wrong with the parameters of an offered media type; empty if nothing is."""
    for name, value in parameters.items():
        if name not in offered:
            return f"{media_type} has no parameter {_quoted(name)}"
        if not re.fullmatch(offered[name].pattern, value):
            return f"{name} of {media_type} is {_quoted(value)}, not {offered[name].accepts}"
    return ""


def _unquoted(value: str) -> str:
    """The content of a quoted string; anything else is returned as it is."""
    return _ESCAPED.sub(r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value


def _not_acceptable(header: str, reason: str, offers: Offers) -> NotAcceptableError:
    shared = set.intersection(*map(set, offers.values())) if len(offers) > 1 else set()
    listed, of_all = [], ""
    for media_type, parameters in offers.items():
        own = {name: parameter for name, parameter in parameters.items() if name not in shared}
        listed.append(f"{media_type} ({_listed(own)})" if own else media_type)
        of_all = _listed({name: parameters[name] for name in parameters if name in shared})
    each = f"; each also takes {of_all}" if of_all else ""
    return NotAcceptableError(
        f"Accept {_quoted(header)} cannot be met: {reason}.", f"Ask for {', '.join(listed)}{each}."
    )


def _listed(parameters: Mapping[str, Parameter]) -> str:
    """Parameters as listed in errors: `palette=voc|ade20k; overlay=0 to 1`."""
    return "; ".join(f"{name}={parameter.accepts}" for name, parameter in parameters.items())


def _media_type(text: str) -> str:
    """`Type/Subtype; parameter=value` -> `type/subtype`."""
    return text.partition(";")[0].strip().lower()


def _quoted(header: str | None) -> str:
    """A header's value, shortened for an error message."""
    text = header or ""
    return repr(text if len(text) <= 100 else text[:97] + "...")
