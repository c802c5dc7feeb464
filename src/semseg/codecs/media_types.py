"""The media types of a request and of its answer: Content-Type and Accept (RFC 9110 sections 8.3 and 12.5.1).

A request's bytes, not its Content-Type, say whether the picture is a JPEG or a PNG: clients that read pictures from
anywhere often declare one and send the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from semseg.errors import NotAcceptableError, UnsupportedMediaError

PNG = "image/png"
RECORDIO_PROTOBUF = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"

OFFERED = (RECORDIO_PROTOBUF, PROTOBUF, PNG)
"""What a request may ask for; the first is the answer to no wish at all."""

IMAGE_TYPES = ("image/jpeg", "image/png", "application/x-image")

UNDECLARED_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""What says nothing about the body; the last is what curl sends unasked."""


def check_content_type(header: str | None) -> None:
    """Raises UnsupportedMediaError when a request's Content-Type (None: not given) cannot be a picture."""
    if _media_type(header or "") not in IMAGE_TYPES + UNDECLARED_TYPES:
        raise UnsupportedMediaError(
            f"Content-Type {_quoted(header)} is not supported.", f"Send one of {', '.join(IMAGE_TYPES)}."
        )


def negotiate_accept(header: str | None) -> str:
    """The offered media type that a request's Accept (None or empty: any) prefers.

    The highest q-value wins, then the more specific range, then the order of the header, then that of OFFERED.
    A range that cannot be parsed is passed over. Raises NotAcceptableError when nothing offered is acceptable.
    """
    if not header or not header.strip():
        return OFFERED[0]
    ranges = [parsed for order, text in enumerate(header.split(",")) if (parsed := _parse_range(text, order))]
    preferred = max(OFFERED, key=lambda offer: _wish(offer, ranges))
    if _wish(preferred, ranges).quality == 0:
        raise NotAcceptableError(
            f"Accept {_quoted(header)} names nothing this model answers with.",
            f"Ask for one of {', '.join(OFFERED)}.",
        )
    return preferred


class _Wish(NamedTuple):
    """How much an offer is wanted, to be compared field by field."""

    quality: float
    specificity: int
    earliness: int


@dataclass(frozen=True)
class _Range:
    """One element of Accept: `type/subtype`, `type/*` or `*/*`, and how much it is wanted."""

    media_type: str
    quality: float
    order: int

    @property
    def specificity(self) -> int:
        return 2 - self.media_type.count("*")

    def matches(self, offer: str) -> bool:
        return self.media_type in (offer, offer.partition("/")[0] + "/*", "*/*")


def _wish(offer: str, ranges: list[_Range]) -> _Wish:
    """What the most specific range that matches an offer says of it."""
    matching = [_Wish(wanted.quality, wanted.specificity, -wanted.order) for wanted in ranges if wanted.matches(offer)]
    return max(matching, key=lambda wish: (wish.specificity, wish.quality), default=_Wish(0, 0, 0))


def _parse_range(text: str, order: int) -> _Range | None:
    """One element of Accept; None when it is malformed."""
    media_type = _media_type(text)
    quality = 1.0
    for parameter in text.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
    return _Range(media_type, quality, order) if "/" in media_type and 0 <= quality <= 1 else None


def _media_type(text: str) -> str:
    """`Type/Subtype; parameter=value` as `type/subtype`."""
    return text.partition(";")[0].strip().lower()


def _quoted(header: str | None) -> str:
    """A header's value, cut to what fits an error message."""
    text = header or ""
    return repr(text if len(text) <= 100 else text[:97] + "...")
