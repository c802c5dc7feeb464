"""The parts of a JPEG or PNG file, found before Pillow sees it: a few of them can cost more than all pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from semseg.errors import ImageError

MAX_SCANS = 50
"""A progressive JPEG has some 10 scans of a few bytes at least, each of which goes over all pixels when decoded."""

MAX_SEGMENTS = 10_000
"""Of a JPEG: Pillow takes microseconds for each, however short. 64 kB of metadata are one, a scan is one more."""

MAX_CHUNKS = 1_000_000
"""Of a PNG file."""

_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # coded data has 0xFF before 0 and in restarts
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1
_EXIF_MARK = b"Exif\0\0"
_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})  # markers that no length follows

_OF_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})


def require_sober_jpeg(data: bytes) -> None:
    """Raise ImageError for a JPEG of endless scans or segments; what lies behind the picture's end is not looked at."""
    scans = 0
    for segments, code in enumerate(_markers(data), 1):
        scans += code == _SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"The JPEG has more than the {MAX_SCANS} scans allowed.", "Save it anew.")
        if segments > MAX_SEGMENTS:
            raise ImageError(f"The JPEG has more than the {MAX_SEGMENTS:,} segments allowed.", "Save it anew.")


def _markers(data: bytes) -> Iterator[int]:
    """The codes of the markers as libjpeg comes by them, up to that of the end (ISO/IEC 10918-1, annex B)."""
    marker, position = _MARKER, 2
    while found := marker.search(data, position):
        code, position = found[1][0], found.end()
        yield code
        if code == _END:
            return
        if code not in _ALONE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        marker = _AFTER_SCAN if code == _SCAN else _MARKER


def png_of_pixels(data: bytes) -> bytes:
    """A PNG file without what tells nothing of the pixels of its first picture, and of the orientation to show it in.

    Pillow would unpack texts, to a thousand times their size, and keep them beside the pixels. What is no PNG, or cut
    short, comes back so. Raises ImageError for a million chunks.
    """
    parts, kept, position = memoryview(data), [], 8
    start = 0
    for _ in range(MAX_CHUNKS):
        length, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + length + 12
        if name not in _OF_PIXELS:
            kept.append(parts[start:position])
            start = end
        position = end
        if name == b"IEND" or end >= len(data):
            break
    else:
        raise ImageError(f"The PNG file has more than the {MAX_CHUNKS:,} chunks allowed.", "Save it anew.")
    return b"".join([*kept, parts[start:]]) if kept else data


def exif_of(data: bytes) -> memoryview:
    """The Exif data of a JPEG or PNG file, which is in the form of TIFF; empty if there is none."""
    view = memoryview(data)
    if data.startswith(b"\x89PNG"):
        position = 8
        for _ in range(MAX_CHUNKS):
            end = position + 12 + int.from_bytes(data[position : position + 4], "big")
            if data.startswith(b"eXIf", position + 4):
                start = position + 8
                start += len(_EXIF_MARK) if data.startswith(_EXIF_MARK, start) else 0
                return view[start : end - 4]
            if end >= len(data):
                break
            position = end
        return view[:0]
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None or found[1][0] == _SCAN:
            break
        position = found.end()
        if found[1][0] not in _ALONE:
            end = position + max(2, int.from_bytes(data[position : position + 2], "big"))
            if found[1][0] == _EXIF and data.startswith(_EXIF_MARK, position + 2):
                return view[position + 2 + len(_EXIF_MARK) : end]
            position = end
    return view[:0]
