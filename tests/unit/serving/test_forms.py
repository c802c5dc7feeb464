from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semseg.errors import RequestError
from semseg.serving.forms import boundary_of, file_of

HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
END = b"\r\n--b--\r\n"
FIELD = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nvalue\r\n'


def read(*pieces: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(file_of(pieces, boundary))


def error_of(*pieces: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read(*pieces)
    return str(caught.value)


BOUNDARY = re.compile(rb"(^|\r|\n)--b")  # a form with this in its file has another boundary
PIECES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"--b", b"\r\n--", b"\r\n--b", b"--b--", b"b", b"\0", b"a" * 9000]
)
CONTENTS = st.lists(PIECES, min_size=1, max_size=9).map(b"".join).filter(lambda content: not BOUNDARY.search(content))


@given(CONTENTS, st.data())
@example(b"\r", None)
def test_the_file_comes_out_however_the_form_arrives(content: bytes, data: st.DataObject | None) -> None:
    form = HEAD + content + END
    cuts = sorted(data.draw(st.lists(st.integers(0, len(form)), max_size=6))) if data else range(len(form))
    pieces = [form[start:end] for start, end in zip((0, *cuts), (*cuts, len(form)), strict=True)]
    assert read(*pieces) == content


@pytest.mark.parametrize(
    "form",
    [
        HEAD + b"content" + END,
        b"\r\n" + HEAD + b"content\r\n--b--",
        HEAD.replace(b"\r\n", b"\n") + b"content" + END.replace(b"\r\n", b"\n"),
        HEAD.replace(b"Content-D", b"content-transfer-encoding: Binary\r\nCONTENT-D") + b"content" + END,
        HEAD.replace(b"image/jpeg", b"text/html") + b"content" + END,
        HEAD.replace(b' name="image";', b"") + b"content" + END,
        HEAD.replace(b'"a.jpg"', b"\"\"; filename*=UTF-8''%C3%A9.jpg") + b"content" + END,
    ],
)
def test_forms_of_one_file_are_read(form: bytes) -> None:
    assert read(form) == b"content"


def test_no_bytes_are_no_form() -> None:
    assert read() == read(b"", b"") == b""


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (FIELD + b"--b--", "The field 'x' of the form is not a file. Send one file and nothing else"),
        (HEAD + b"content\r\n" + FIELD + b"--b--", "The field 'x' of the form is not a file."),
        (FIELD + HEAD + b"content" + END, "The field 'x' of the form is not a file."),
        (FIELD.replace(b'; name="x"', b""), "A field without a name of the form is not a file."),
        (HEAD + b"content\r\n" + HEAD + b"more" + END, "The field 'image' of the form is a second file."),
        (b"--b--", "The form has no file."),
        (HEAD + END, "The file of the form is empty."),
        (HEAD.replace(b"a.jpg", b"") + END, "The file of the form is empty."),
        (HEAD + b"content", "The form is damaged or incomplete"),
        (HEAD, "The form is damaged or incomplete"),
        (HEAD[:30], "The form is damaged or incomplete"),
        (b"no form", "The form is damaged or incomplete"),
        (HEAD.replace(b"--b", b"--c") + b"content" + END.replace(b"--b", b"--c"), "The form is damaged or incomplete"),
        (b"--b\r\nContent-Type: image/png\r\n\r\ncontent" + END, "Missing Content-Disposition"),
        (HEAD.replace(b"image", b"\xff") + b"content" + END, "The form is damaged or incomplete"),
        (b"junk\r\n" + HEAD + b"content" + END, "The form has data outside of its parts."),
        (HEAD + b"content" + END + b"junk", "The form has data outside of its parts."),
        (b"x" * 30_000 + HEAD + b"content" + END, "The form has too long headers, or data outside of its parts."),
        (HEAD + b"content" + END + b" " * 30_000, "The form has too long headers, or data outside of its parts."),
        (HEAD.replace(b"a.jpg", b"a" * 30_000) + b"content" + END, "The form has too long headers"),
        (
            HEAD[:-2] + b"content-transfer-encoding: base64\r\n\r\nY29udGVudA==" + END,
            "of the form is encoded as 'base64'.",
        ),
    ],
)
def test_everything_else_is_refused_in_words(form: bytes, message: str) -> None:
    assert message in error_of(form)
    assert message in error_of(*(form[place : place + 7] for place in range(0, len(form), 7)))


def test_a_second_part_is_refused_before_the_rest_is_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield HEAD + b"content\r\n" + FIELD
        raise AssertionError("the rest is read")

    with pytest.raises(RequestError, match="is not a file"):
        list(file_of(pieces(), b"b"))


def test_the_parser_keeps_little_of_a_large_file() -> None:
    piece = b"\r\n-" * (1 << 18)
    tracemalloc.start()
    size = sum(map(len, file_of((HEAD, *[piece] * 20, END), b"b")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 20 * len(piece)
    assert peak < 200_000


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (None, None),
        ("", None),
        ("image/png; boundary=b", None),
        ("multipart/mixed; boundary=b", None),
        ("multipart/form-data; boundary=b", b"b"),
        ("Multipart/Form-Data ;charset=utf-8; BOUNDARY=b", b"b"),
        ('multipart/form-data; boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; boundary=" + "b" * 70, b"b" * 70),
    ],
)
def test_boundaries(header: str | None, boundary: bytes | None) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "parameter",
    [
        "",
        "; boundary",
        "; boundary=",
        '; boundary=""',
        "; boundary=é",
        "; boundary=" + "b" * 71,
        ";" * 9000 + "boundary=b",
    ],
)
def test_a_form_without_a_valid_boundary_is_an_error(parameter: str) -> None:
    with pytest.raises(RequestError, match="has no boundary of 1 to 70 characters"):
        boundary_of("multipart/form-data" + parameter)
