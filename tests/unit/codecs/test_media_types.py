from __future__ import annotations

import pytest

from semseg.codecs.media_types import check_content_type, negotiate_accept
from semseg.errors import NotAcceptableError, UnsupportedMediaError

RECORDIO = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"
PNG = "image/png"


@pytest.mark.req("R19", "R50")
@pytest.mark.parametrize(
    "header",
    [
        "image/jpeg",
        "image/png",
        "application/x-image",
        "Image/JPEG",
        " image/jpeg ; charset=binary",
        None,
        "",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
def test_pictures_and_undeclared_bodies_are_accepted(header: str | None) -> None:
    check_content_type(header)


@pytest.mark.parametrize("header", ["image/gif", "text/csv", "image", "image/*", "application/json; a=image/png"])
def test_other_content_types_are_refused_with_what_is_supported(header: str) -> None:
    with pytest.raises(UnsupportedMediaError) as caught:
        check_content_type(header)
    assert repr(header) in caught.value.message
    assert "image/jpeg" in caught.value.hint


def test_a_long_content_type_is_cut_in_the_message() -> None:
    with pytest.raises(UnsupportedMediaError) as caught:
        check_content_type("x" * 5000)
    assert len(caught.value.message) < 200


@pytest.mark.req("R10", "R49", "R51", "R52")
@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (None, RECORDIO),
        ("", RECORDIO),
        (" ", RECORDIO),
        ("*/*", RECORDIO),
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("image/png; q=0.1", PNG),
        ("image/png;version=1;q=0.3", PNG),
        ("image/*", PNG),
        ("application/*", RECORDIO),
        ("application/x-recordio-protobuf", RECORDIO),
        ("application/x-protobuf", PROTOBUF),
        ("application/x-protobuf, application/x-recordio-protobuf", PROTOBUF),
        ("application/x-protobuf;q=0.8, application/x-recordio-protobuf;q=0.9", RECORDIO),
        ("image/png, */*", PNG),
        ("*/*, image/png", PNG),
        ("*/*;q=0.9, image/png;q=0.5", RECORDIO),
        ("application/*;q=0.5, image/*", PNG),
        ("application/x-recordio-protobuf;q=0, application/*", PROTOBUF),
        ("application/*;q=0, */*;q=0.1", PNG),
        ("image/png;q=0, */*", RECORDIO),
        ("text/html, image/webp, */*;q=0.8", RECORDIO),
        ("nonsense, image/png", PNG),
        ("image/png;q=high, application/x-protobuf;q=0.1", PROTOBUF),
        (",,image/png,", PNG),
    ],
)
def test_the_answer_is_what_accept_prefers(header: str | None, answer: str) -> None:
    assert negotiate_accept(header) == answer


@pytest.mark.req("R49")
@pytest.mark.parametrize(
    "header",
    ["application/json", "image/jpeg", "text/*", "image/png;q=0", "*/*;q=0", "nonsense", ",", "image/png;q=2"],
)
def test_when_nothing_is_acceptable_the_error_names_the_offers(header: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        negotiate_accept(header)
    assert all(offer in caught.value.hint for offer in (RECORDIO, PROTOBUF, PNG))
