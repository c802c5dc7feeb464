from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from semseg.codecs.exif import orientation


def tiff(order: str, entries: list[tuple[int, int, int]], start: int = 8) -> bytes:
    """Exif data of the given entries: tag, kind and value."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    rows = [struct.pack(order + "HHIHxx", tag, kind, 1, value) for tag, kind, value in entries]
    return head.ljust(start, b"\0") + struct.pack(order + "H", len(entries)) + b"".join(rows) + bytes(4)


def plain(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, kind, **options)
    return file.getvalue()


def in_jpeg(exif: bytes, before: bytes = b"") -> bytes:
    content = b"Exif\0\0" + exif
    return b"\xff\xd8" + before + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + plain("JPEG")[2:]


def in_png(exif: bytes, place: int = 33) -> bytes:
    file, body = plain("PNG"), b"eXIf" + exif
    return file[:place] + struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body)) + file[place:]


@pytest.mark.parametrize("wrap", [in_jpeg, in_png])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("stated", range(1, 9))
def test_what_is_stated(wrap: type[bytes], order: str, stated: int) -> None:
    before = [(0x010F, 2, 0), (0x0110, 3, 5)]
    assert orientation(wrap(tiff(order, [*before, (0x0112, 3, stated)]))) == stated
    assert orientation(wrap(tiff(order, [(0x0112, 3, stated)], start=60))) == stated


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_pillow_writes(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    assert orientation(plain(kind, exif=exif)) == 3


def test_wherever_it_stands() -> None:
    exif = tiff("<", [(0x0112, 3, 6)])
    assert orientation(in_jpeg(exif, b"\xff\xfe\0\4ab" + b"\xff\xe1\0\6http")) == 6
    assert orientation(in_png(exif, place=-12)) == 6
    assert orientation(in_png(b"Exif\0\0" + exif)) == 6


@pytest.mark.parametrize("wrap", [in_jpeg, in_png])
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"XX*\0" + bytes(60),
        b"II*\0\xff\xff\xff\xff" + bytes(60),
        b"II*\0\x08\0\0\0\xff\xff" + bytes(60),
        tiff("<", [(0x0112, 3, 0)]),
        tiff("<", [(0x0112, 3, 9)]),
        tiff("<", [(0x0112, 2, 6)]),
        tiff("<", [(0x0112, 3, 6)])[:-12],
    ],
)
def test_what_says_nothing(wrap: type[bytes], exif: bytes) -> None:
    assert orientation(wrap(exif)) == 1


def test_what_is_no_image() -> None:
    for data in (b"", b"GIF89a", plain("JPEG")[:9], plain("PNG")[:9], plain("JPEG"), plain("PNG")):
        assert orientation(data) == 1
