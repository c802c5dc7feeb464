from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg.errors import RequestError, UnsupportedCodingError
from semseg.serving.codings import accepts_gzip, check_content_encoding, is_packed, unpacked

CONTENT = Random(0).randbytes(3_000_000) + bytes(3_000_000)
SMALL = b"a small image" * 9


@pytest.mark.parametrize("header", ["gzip", "x-gzip", "GZip", " gzip ", ",gzip,,", "identity, gzip"])
def test_gzip_is_read(header: str) -> None:
    check_content_encoding(header)
    assert is_packed(header)


@pytest.mark.parametrize("header", [None, "", " ", ",", "identity", "Identity, identity"])
def test_so_is_no_coding_at_all(header: str | None) -> None:
    check_content_encoding(header)
    assert not is_packed(header)


@pytest.mark.parametrize(
    "header",
    [
        "br",
        "deflate",
        "zstd",
        "compress",
        "gzip, gzip",
        "br, gzip",
        "gzip;q=1",
        "aws-chunked",
        "*",
        "gzip gzip",
        "x" * 8000,
    ],
)
def test_other_codings_and_several_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedCodingError) as caught:
        check_content_encoding(header)
    assert header[:90] in caught.value.message
    assert len(caught.value.message) < 200
    assert "gzip" in caught.value.hint


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("x-gzip", True),
        ("GZIP;q=0.1", True),
        ("gzip, deflate, br, zstd", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("identity;q=1, *;q=0", False),
        ("br, identity", False),
        ("gzip;q=high", False),
        ("gzip;q=0, gzip", True),
        (", , gzip", True),
        ('"', False),
        ("gzip," * 1500, True),
        ("gzip," * 100_000, False),
    ],
)
def test_whether_an_answer_may_be_gzip(header: str | None, accepted: bool) -> None:
    assert accepts_gzip(header) == accepted


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1000, 1 << 16, 1 << 20, 1 << 30])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_is_unpacked_however_it_comes(size: int, level: int) -> None:
    pieces = list(unpacked(cut(gzip.compress(CONTENT, level), size)))
    assert b"".join(pieces) == CONTENT
    assert all(0 < len(piece) <= 1 << 20 for piece in pieces)


@pytest.mark.parametrize(
    "content", [b"", b"x", bytes((1 << 20) - 1), bytes(1 << 20), bytes((1 << 20) + 1), bytes(1 << 22)]
)
@pytest.mark.parametrize("size", [1, 2, 7, 1 << 16])
def test_the_end_is_found_wherever_pieces_end(content: bytes, size: int) -> None:
    assert b"".join(unpacked(cut(gzip.compress(content), size))) == content


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 60))
def test_members_in_a_row_are_one_file(contents: list[bytes], size: int) -> None:
    packed = b"".join(map(gzip.compress, contents))
    assert b"".join(unpacked(cut(packed, size))) == b"".join(contents)


def test_a_header_with_all_that_gzip_allows() -> None:
    """A name, a comment, extra fields and a checksum of them (RFC 1952 section 2.3)."""
    header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff" + b"\4\0abcd" + b"image.jpg\0" + b"a comment\0"
    header += zlib.crc32(header).to_bytes(4, "little")[:2]
    assert b"".join(unpacked(cut(header + gzip.compress(SMALL)[10:], 3))) == SMALL


PACKED = gzip.compress(SMALL, mtime=0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        *((PACKED[:end], "is cut short") for end in range(1, len(PACKED))),
        (b"\xff\xd8\xff\xe0", "does not begin like gzip"),
        (b"\0", "does not begin like gzip"),
        (zlib.compress(SMALL), "does not begin like gzip"),
        (PACKED + b"\0", "has other data after its end"),
        (PACKED + b"\x1f\0", "(has other data after its end|is damaged: .* incorrect header check)"),
        (PACKED + PACKED[:5], "is cut short"),
        (PACKED[:-8] + bytes(8), "is damaged: .* incorrect data check"),
        (PACKED[:-1] + b"\1", "is damaged: .* incorrect length check"),
        (PACKED[:15] + b"\xff\xff\xff" + PACKED[18:], "is damaged"),
        (b"\x1f\x8b\x07" + PACKED[3:], "is damaged: .* unknown compression method"),
        (b"\x1f\x8b\x08\xe0" + PACKED[4:], "is damaged: .* unknown header flags"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_sound_gzip_is_said_to_be_so(data: bytes, says: str, size: int) -> None:
    with pytest.raises(RequestError, match=f"^The request's body is declared as gzip, but {says}.*\\.$"):
        list(unpacked(cut(data, size)))


@given(st.binary(max_size=100), st.integers(0, len(PACKED)))
def test_any_bytes_are_unpacked_or_refused(data: bytes, kept: int) -> None:
    with contextlib.suppress(RequestError):
        list(unpacked([PACKED[:kept] + data]))


def test_what_unpacks_without_end_is_unpacked_only_as_far_as_it_is_asked_for() -> None:
    """A body that grows a thousandfold is decompressed a megabyte at a time, and read only as needed."""
    taken, packed = 0, gzip.compress(bytes(20 << 20), 9)

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for piece in cut(packed, 1000):
            taken += len(piece)
            yield piece

    tracemalloc.start()
    content = unpacked(pieces())
    sizes = [len(next(content)) for _ in range(5)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(sizes) <= 1 << 20
    assert taken < 8000
    assert peak < 4 << 20


def test_members_without_end_are_refused_early() -> None:
    """A hundred megabytes of empty members would take many seconds."""
    taken, empty = 0, gzip.compress(b"")

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield empty

    with pytest.raises(RequestError, match="more than 2,000 members"):
        list(unpacked(pieces()))
    assert taken <= 2001
