"""Files in which a few bytes would cost more than all pixels are refused, or read without these bytes."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from counted_calls import counted_calls
from PIL import Image
from png_chunks import chunk

from semseg.codecs.images import decode_image, exif_swaps_sides, verify_image
from semseg.codecs.segments import inflates_to
from semseg.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
MANY = 5_000_000
STEPS = 800_000
"""Limit on the function calls that reading a file may take: a few for each of 50,000 chunks, in two passes."""


def encode(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


JPEG, PROGRESSIVE, PNG = encode("JPEG"), encode("JPEG", progressive=True), encode("PNG")
SCAN = JPEG.index(b"\xff\xda") + 14
NEXT = PROGRESSIVE.index(b"\xff\xc4", PROGRESSIVE.index(b"\xff\xda"))


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def after_start(bytes_: bytes) -> bytes:
    return JPEG[:2] + segment(0xEE, b"") + bytes_ + JPEG[2:]


def in_scan(bytes_: bytes) -> bytes:
    return JPEG[:SCAN] + bytes_ + JPEG[SCAN:]


def after_header(bytes_: bytes) -> bytes:
    return PNG[:33] + bytes_ + PNG[33:]


EXIF = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 60_000)
TABLES = segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000)
REFUSED = {
    "fill": b"\xff\xd8" + MANY * b"\xff",
    "fill before an image": b"\xff\xd8" + MANY * b"\xff" + JPEG[2:],
    "zeros": after_start(bytes(MANY)),
    "stuffed": after_start(MANY // 2 * b"\xff\0"),
    "a little before each segment": JPEG[:2] + 4000 * (segment(0xEE, b"") + bytes(20)) + JPEG[2:],
    "fill in a scan": in_scan(MANY * b"\xff"),
    "fill between scans": PROGRESSIVE[:NEXT] + MANY * b"\xff" + PROGRESSIVE[NEXT:],
    "empty segments": after_start(MANY // 4 * segment(0xE5, b"")),
    "markers": after_start(MANY // 2 * b"\xff\x01"),
    "comments in a scan": in_scan(MANY // 4 * segment(0xFE, b"")),
    "eXIf": after_header(900_000 * chunk(b"eXIf")),
    "IDAT": after_header(60_000 * chunk(b"IDAT")),
    "tEXt": after_header(60_000 * chunk(b"tEXt", b"a\0b")),
    "PLTE": after_header(60_000 * chunk(b"PLTE")),
    "IHDR": PNG[:8] + 60_000 * chunk(b"IHDR", bytes(13)) + PNG[33:],
    "behind the pixels": PNG[:-12] + 60_000 * chunk(b"tEXt"),
    "data byte by byte": after_header(60_000 * chunk(b"IDAT", b"x")),
}
READ = {
    "some fill": after_start(60_000 * b"\xff"),
    "fill before the end": JPEG[:-2] + 60_000 * b"\xff" + JPEG[-2:],
    "many segments": after_start(9_000 * segment(0xE5, b"")),
    "Exif": after_start(100 * EXIF),
    "several images": after_start(9_000 * segment(0xE2, b"MPF\0II*\0")),
    "tables": after_start(80 * TABLES),
    "behind the end": JPEG + MANY * b"\xff",
    "eXIf that says nothing": after_header(40_000 * chunk(b"eXIf")),
    "IDAT without data": after_header(40_000 * chunk(b"IDAT")),
    "texts": after_header(40_000 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000)))),
    "a large eXIf": after_header(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(MANY))),
    "zeros behind the pixels": PNG[:-12] + bytes(MANY),
}


def steps_of(call: Callable[[], object]) -> int:
    """The number of function calls, whether or not reading succeeds."""
    return counted_calls(call, ImageError)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_cost_too_much_is_refused(name: str) -> None:
    with pytest.raises(
        ImageError, match=r"more than the [0-9,]+ (segments|chunks)|over 65,536 stray|cannot be decoded"
    ):
        decode_image(REFUSED[name])


@pytest.mark.parametrize("name", READ)
def test_what_costs_little_is_read(name: str) -> None:
    image = decode_image(READ[name])
    np.testing.assert_array_equal(image, decode_image(PNG if READ[name].startswith(PNG[:8]) else JPEG))


@pytest.mark.parametrize("file", [*REFUSED.values(), *READ.values()], ids=[*REFUSED, *READ])
def test_reading_takes_a_bounded_number_of_steps(file: bytes) -> None:
    assert steps_of(lambda: verify_image(file)) <= STEPS
    assert steps_of(lambda: exif_swaps_sides(file)) <= STEPS


@pytest.mark.parametrize("content", [MANY // 2 * b"\xff\0", MANY // 2 * b"\xff\xd0", bytes(MANY)])
def test_coded_data_takes_one_step_for_many_bytes(content: bytes) -> None:
    """Also where a marker may follow every second byte."""
    assert steps_of(lambda: verify_image(in_scan(content))) < 2000


def test_no_filter_of_warnings_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to the whole process: changing them would block other threads, or change their limits."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("touched")

    for name in ("catch_warnings", "simplefilter", "filterwarnings", "warn"):
        monkeypatch.setattr(warnings, name, refuse)
    broken = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 4)
    for file in (after_start(broken), after_header(chunk(b"eXIf", broken[10:]) + chunk(b"acTL", bytes(8)))):
        assert decode_image(file).shape == PIXELS.shape
        assert verify_image(file) == (16, 16)
        assert not exif_swaps_sides(file)


def test_what_follows_the_end_of_a_png_s_data_is_not_unpacked() -> None:
    """zlib would keep it, and copy it with each further piece."""
    row = zlib.compress(bytes(101))

    def png(behind: int) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", row + bytes(behind)) + chunk(b"IEND")

    assert not inflates_to(png(0), 100 * 101)
    assert steps_of(lambda: inflates_to(png(20 << 20), 100 * 101)) <= steps_of(lambda: inflates_to(png(0), 100 * 101))
