from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semseg.codecs.exif import orientation
from semseg.codecs.images import exif_turns_apart

Wrap = Callable[[bytes], bytes]


def block(value: int, order: str = "<", kind: int = 3, before: int = 2) -> bytes:
    """A TIFF file of one directory, in which other tags stand before and after the orientation."""
    entries = [(0x0100 + place, 4, 1, 7) for place in range(before)] + [(0x0112, kind, 1, value), (0x0128, 3, 1, 2)]
    body = b"".join(struct.pack(order + "HHIHxx", *entry) for entry in entries)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


def jpeg(exif: bytes) -> bytes:
    """An Exif segment behind another, and what any JPEG goes on with."""
    app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    return b"\xff\xd8\xff\xe0\0\x04ab" + app1 + b"\xff\xda\0\x02"


def png(exif: bytes, *before: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", bytes(13)), *before, (b"eXIf", exif), (b"IEND", b"")]
    parts = (struct.pack(">I", len(body)) + name + body + bytes(4) for name, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("wrap", [jpeg, png])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_tag_in_either_order_of_bytes(value: int, order: str, wrap: Wrap) -> None:
    assert orientation(wrap(block(value, order))) == value


def test_a_png_file_may_say_so_behind_its_pixels_and_with_the_mark_of_a_jpeg() -> None:
    assert orientation(png(block(3), (b"IDAT", b"x"))) == 3
    assert orientation(png(b"Exif\0\0" + block(3))) == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("value", range(1, 9))
def test_files_that_pillow_writes(value: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x9003] = "a camera", value, "2026:01:01 00:00:00"
    for written, expected in ((exif, value), (b"", 1)):
        file = io.BytesIO()
        Image.new("RGB", (6, 4)).save(file, kind, exif=written)
        assert orientation(file.getvalue()) == expected


@pytest.mark.parametrize("wrap", [jpeg, png])
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        block(0),
        block(9),
        block(65535),
        block(3, kind=2),
        block(3, before=0)[:-30],
        b"II*\0\xff\xff\xff\xff" + block(3)[8:],  # the directory lies beyond the end
        b"II+\0" + block(3)[4:],
        b"MM\0*" + block(3)[4:],
    ],
)
def test_what_is_malformed_says_nothing(exif: bytes, wrap: Wrap) -> None:
    assert orientation(wrap(exif)) == 1


@pytest.mark.parametrize("wrap", [jpeg, png])
def test_any_end_is_borne(wrap: Wrap) -> None:
    whole = wrap(block(3))
    assert {orientation(whole[:end]) for end in range(len(whole))} == {1, 3}


@given(
    st.binary(max_size=80), st.sampled_from([jpeg, png, bytes]), st.sampled_from([b"II*\0", b"MM\0*\0\0\0\x08", b""])
)
def test_nothing_raises(rest: bytes, wrap: Wrap, start: bytes) -> None:
    assert orientation(wrap(start + rest)) in range(1, 9)


@pytest.mark.parametrize(
    ("size", "one", "other", "apart"),
    [
        ((6, 4), 1, 1, False),
        ((6, 4), 3, 1, True),
        ((6, 4), 1, 3, True),
        ((6, 4), 3, 3, False),
        ((6, 4), 2, 4, True),
        ((6, 4), 6, 1, False),  # as shown, their sizes differ: the mask was drawn on the stored pixels
        ((6, 4), 6, 8, True),
        ((6, 6), 6, 1, True),
        ((6, 6), 5, 5, False),
    ],
)
def test_two_files_turned_apart(size: tuple[int, int], one: int, other: int, apart: bool) -> None:
    assert exif_turns_apart(jpeg(block(one)), png(block(other)), size) == apart
