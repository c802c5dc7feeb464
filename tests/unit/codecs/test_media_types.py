from __future__ import annotations

from collections.abc import Callable

import pytest
from counted_calls import counted_calls
from hypothesis import given
from hypothesis import strategies as st

from semseg.codecs.media_types import (
    LONGEST_ACCEPT,
    SHARE,
    Accepted,
    Offers,
    check_content_type,
    choice,
    negotiate_accept,
    with_defaults,
)
from semseg.errors import NotAcceptableError, UnsupportedMediaError

RECORDIO = "application/x-recordio-protobuf"
PROTOBUF = "application/x-protobuf"
PNG = "image/png"
JSON = "application/json"
OFFERS: Offers = {
    RECORDIO: {"values": choice("all", "classes")},
    PROTOBUF: {},
    PNG: {"palette": choice("voc", "ade20k"), "overlay": SHARE},
    JSON: {},
}


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
        "image/jpg",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "image/pjpeg",
        "image/x-png",
        "IMAGE/X-PNG\t; a=b",
    ],
)
def test_images_and_undeclared_bodies_are_accepted(header: str | None) -> None:
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
        ("image/png;", PNG),
        ("*/*;version=1", RECORDIO),
        ("text/html;level=1, image/png;q=0.3", PNG),
        ("application/json", JSON),
        ("application/json;q=0.9, image/png", PNG),
    ],
)
def test_the_answer_is_what_accept_prefers(header: str | None, answer: str) -> None:
    assert negotiate_accept(header, OFFERS) == Accepted(answer, {})


@pytest.mark.parametrize(
    ("header", "answer", "parameters"),
    [
        ("image/png; palette=voc", PNG, {"palette": "voc"}),
        ("Image/PNG;Palette=ADE20K", PNG, {"palette": "ade20k"}),
        ('image/png; palette="voc"', PNG, {"palette": "voc"}),
        ("image/png; palette=voc; q=0.1", PNG, {"palette": "voc"}),
        ("image/png; overlay=0.5; palette=voc", PNG, {"overlay": "0.5", "palette": "voc"}),
        ("image/png; overlay=0", PNG, {"overlay": "0"}),
        ("image/png; overlay=1.0", PNG, {"overlay": "1.0"}),
        ("application/x-recordio-protobuf; values=classes", RECORDIO, {"values": "classes"}),
        ("image/png, image/png; palette=voc", PNG, {"palette": "voc"}),  # the more specific
        ("image/png, image/png; palette=voc; q=0.9", PNG, {}),
        ("image/png; palette=voc; q=0, image/png", PNG, {}),
        ("image/png; palette=voc, image/png; q=0", PNG, {"palette": "voc"}),
        ("image/png; palette=voc, image/png; palette=ade20k", PNG, {"palette": "voc"}),
        ("image/png; palette=voc; q=0, */*", RECORDIO, {}),
        ("image/x-png; palette=voc", PNG, {"palette": "voc"}),
        ("image/png; palette=voc; version=1; level=2", PNG, {"palette": "voc"}),
        ('image/png; title="a, b; palette=ade20k"; palette=voc', PNG, {"palette": "voc"}),
        (r'image/png; title="a \" ,"; palette="v\oc"', PNG, {"palette": "voc"}),
        ("image/png ;\tpalette = voc ; q = 0.5", PNG, {"palette": "voc"}),
        ("image/png;palette=voc;charset=a;charset=b", PNG, {"palette": "voc"}),
        ("image/png; palette=none, application/x-protobuf; q=0.1", PROTOBUF, {}),
    ],
)
def test_parameters_choose_among_the_forms_of_a_media_type(
    header: str, answer: str, parameters: dict[str, str]
) -> None:
    assert negotiate_accept(header, OFFERS) == Accepted(answer, parameters)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("image/png; palette=none", "palette of image/png is 'none', not voc|ade20k"),
        ("image/png; palette", "palette of image/png is '', not voc|ade20k"),
        ("application/json; palette=voc", "application/json has no parameter 'palette'"),
        ("image/png; overlay=1.1", "overlay of image/png is '1.1', not 0 to 1"),
        ("image/png; overlay=-0.5", "'-0.5'"),
        ("image/png; overlay=nan", "'nan'"),
        ("image/png; overlay=0.5e0", "'0.5e0'"),
        ("image/png; overlay=0." + "1" * 5000, "'0.111"),
        ("image/png; overlay=\u0660", "not 0 to 1"),
        ("image/png; palette=voc; palette=voc", "palette of image/png is given twice"),
        ("image/png; q=1; q=1", "q of image/png is given twice"),
        ("image/png; q=high", "q of image/png is 'high', not 0 to 1"),
        ("image/png; q=1.001", "q of image/png is '1.001', not 0 to 1"),
        ("image/png; q=-0", "q of image/png is '-0', not 0 to 1"),
        ("image/png; q=nan", "'nan'"),
        ("image/png; q=1_0", "'1_0'"),
        ("image/png; q=", "''"),
        ("image/png; palette=none, */*", "palette of image/png is 'none', not voc|ade20k"),
        ("image/png; palette=none, */*; q=0.1", "'none'"),
        ("image/png; palette=none, image/*", "'none'"),
        ("image/x-png; palette=none, */*", "'none'"),
        ("image/png; q=high, */*; q=0.1", "'high'"),
        ("application/json; palette=voc, */*; q=0.1", "application/json has no parameter 'palette'"),
        ('image/png; palette="voc, */*', "palette of image/png is '\"voc, */*', not voc|ade20k"),
        ("text/html; palette=none, application/json; rle=1; palette=voc, */*", "no parameter 'palette'"),
    ],
)
def test_a_parameter_or_value_that_is_not_on_offer_is_named(header: str, reason: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        negotiate_accept(header, OFFERS)
    assert reason in caught.value.message
    assert len(caught.value.message) < 400
    assert "image/png (palette=voc|ade20k; overlay=0 to 1)" in caught.value.hint


@given(st.lists(st.sampled_from([*'aq=,;/*. "-1', "image/png", "palette", "voc", "overlay"]), max_size=30).map("".join))
def test_any_header_is_settled_or_refused(header: str) -> None:
    try:
        accepted = negotiate_accept(header, OFFERS)
    except NotAcceptableError:
        return
    assert set(accepted.parameters) <= set(OFFERS[accepted.media_type])


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("application/json, text/plain, */*", JSON),  # axios
        ("application/json; charset=utf-8", JSON),
        ("application/json;odata.metadata=none", JSON),
        ("application/json;foo=1, */*;q=0.1", JSON),
        ('application/json; profile="https://a/b,c;d"; version=2, */*;q=0.1', JSON),
        ("image/png; version=1", PNG),
        ("*/*; charset=utf-8", RECORDIO),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8", RECORDIO),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", PNG),  # an <img> in Firefox
        ("image/webp,image/apng,image/*,*/*;q=0.8", PNG),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", RECORDIO),  # Java's URLConnection
        ("image/x-png", PNG),
        ("IMAGE/X-PNG;Q=0.12345", PNG),
        (" , ,\timage/png\t,, ", PNG),
        ("image/png;q=1.000000", PNG),
        ("image/png;q=0.0001, application/json;q=0.00001", PNG),
        ("image/png;q=0.000, */*;q=0.00001", RECORDIO),
        ("image/png;palette=none;q=0, */*;q=0.1", RECORDIO),  # what is refused need not be on offer
        ("image/png;palette=none;q=0.1, */*;q=0.2", RECORDIO),
        ("application/*;q=0, */*;q=0.5, image/png;palette=none;q=0.4", PNG),
        ("image/png;palette=none, application/json;q=0.1, */*", JSON),  # another type is named
        ('"image/png", application/json', JSON),
        ("text/html;q=high, application/json", JSON),
    ],
)
def test_accept_as_clients_send_it(header: str, answer: str) -> None:
    assert negotiate_accept(header, OFFERS) == Accepted(answer, {})


def test_as_many_ranges_as_a_header_holds_are_settled() -> None:
    header = ",".join(f"image/png;overlay=0.{number}" for number in range(300))
    assert negotiate_accept(header, OFFERS).parameters == {"overlay": "0.0"}


def calls(function: Callable[..., object], *arguments: object) -> int:
    """The number of function calls that a call makes, whether or not it succeeds."""
    return counted_calls(lambda: function(*arguments), NotAcceptableError)


@pytest.mark.parametrize(
    "unit",
    [
        "image/png;overlay=0.{:04}",
        "image/png;palette={}",
        "a/b",
        "*/*",
        ",",
        ";",
        '"',
        '"a",',
        "a;" * 9 + "a=1",
        "a/{}",
    ],
)
def test_the_work_grows_with_the_header_not_with_its_square(unit: str) -> None:
    def header(size: int) -> str:
        return ",".join(unit.format(number) for number in range(size))[:size]

    half, whole = (calls(negotiate_accept, header(size), OFFERS) for size in (LONGEST_ACCEPT // 2, LONGEST_ACCEPT))
    assert whole < 2.1 * half + 100
    assert whole < 10 * LONGEST_ACCEPT


def test_a_header_beyond_all_reason_is_refused_unread() -> None:
    header = "image/png," * (LONGEST_ACCEPT // 10)
    assert negotiate_accept(header, OFFERS).media_type == PNG
    for much in (1, 50):
        with pytest.raises(NotAcceptableError, match=r"characters, more than 16,384\.") as caught:
            negotiate_accept(header * (much + 1), OFFERS)
        assert len(caught.value.message) < 400
    assert calls(negotiate_accept, header * 50, OFFERS) < 100


@pytest.mark.req("R49")
@pytest.mark.parametrize(
    "header",
    ["text/csv", "image/jpeg", "text/*", "image/png;q=0", "*/*;q=0", "nonsense", ",", "image/png;q=2"],
)
def test_when_nothing_is_acceptable_the_error_names_the_offers(header: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        negotiate_accept(header, OFFERS)
    assert all(offer in caught.value.hint for offer in (RECORDIO, PROTOBUF, PNG))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, {"values": "all"}),
        ({"values": "classes"}, {"values": "classes"}),
        ({"share": "0.5"}, {"values": "all", "share": "0.5"}),
    ],
)
def test_a_parameter_that_is_not_given_has_its_default(given: dict[str, str], values: dict[str, str]) -> None:
    parameters = {"values": choice("all", "classes", default="all"), "share": SHARE}
    assert with_defaults(given, parameters) == values
