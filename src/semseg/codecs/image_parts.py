"""The parts of a JPEG or PNG file, found before Pillow sees it: a few of them can cost more than all pixels.

All is linear in the bytes of the file, and bounded in the parts that Python code goes over.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from semseg.errors import ImageError

MAX_SCANS = 50
"""A progressive JPEG has some 10 scans of a few bytes at least, each of which goes over all pixels when decoded."""

MAX_SEGMENTS = 10_000
"""Of a JPEG. 64 kB of metadata are one, a scan is one more."""

MAX_STRAY = 1 << 16
"""Bytes of a JPEG between its segments, in all: 0xFF before a marker, of which there may be many, and what belongs
nowhere. Decoders that get a file in pieces begin each run anew with every piece."""

MAX_CHUNKS = 50_000
"""Of a PNG file. Encoders write pixels in chunks of 8 kB and more."""

END_OF_JPEG = b"\xff\xd9"

_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_SCAN, _END, _EXIF, _PROGRESSIVE = 0xDA, 0xD9, 0xE1, 0xC2
_EXIF_MARK = b"Exif\0\0"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # 0xF7: of JPEG-LS
_RESTARTS = range(0xD0, 0xD8)
_ALONE = frozenset({0x01, 0xD8, _END, *_RESTARTS})  # markers that no length follows
_INSIDE_SCAN = bytes({0x00, 0xFF, *_RESTARTS})
"""What follows 0xFF in coded data; more of 0xFF fills the space before a marker."""
_FIRST_PIECE, _LAST_PIECE = 1 << 15, 1 << 18

_PIECE = 1 << 20
_CHUNK = struct.Struct(">I4s")
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_INFLATED = 1 << 12


class _Segment(NamedTuple):
    code: int
    start: int  # of its marker
    end: int  # of a scan's header, which coded data follows


@dataclass(frozen=True)
class JpegParts:
    """A JPEG file without stray bytes.

    data: the file, with an end marker. end: where coded data ends before that. ended: whether the file had one.
    """

    data: bytes
    end: int
    ended: bool


def undecodable(what: object) -> ImageError:
    """The error of an image that is damaged."""
    return ImageError(f"The picture cannot be decoded: {what}.", "It is damaged or cut short; write or copy it again.")


def jpeg_frame(data: bytes) -> bytes:
    """The segment of a JPEG file that declares size and kind, with its marker. No coded data is looked at.

    Raises ImageError for endless segments or stray bytes, and for a file that is cut short before its first scan.
    """
    frame = b""
    for code, start, end in _segments(data):
        if code in _FRAMES:
            frame = frame or data[start:end]
        if code == _SCAN and frame and end <= len(data):
            return frame
    raise undecodable("the JPEG file is cut short before its pixels")


def jpeg_parts(data: bytes) -> JpegParts:
    """Find the parts of a JPEG file. What lies behind the image's end is not looked at.

    A file without an end marker must end in the coded data of a scan, after which no scan is due.
    Raises ImageError for endless scans, segments or stray bytes, and for a file that is cut short elsewhere.
    """
    view, kept, start = memoryview(data), [], 0
    frame, scans = b"", []
    last = _Segment(0, 0, 2)
    for segment in _segments(data):
        if segment.start != last.end and last.code != _SCAN:
            kept.append(view[start : last.end])
            start = segment.start
        if segment.code == _SCAN:
            scans.append(data[segment.start : segment.end])
        elif segment.code in _FRAMES:
            frame = frame or data[segment.start : segment.end]
        if len(scans) > MAX_SCANS:
            raise ImageError(f"The JPEG has more than the {MAX_SCANS} scans allowed.", "Save it anew.")
        last = segment
    ended = last.code == _END
    if not ended and (last.code != _SCAN or last.end > len(data) or not _all_is_sent(frame, scans)):
        raise undecodable("the JPEG file is cut short")
    end = last.start if ended else len(data)
    if kept or not ended:
        data = _joined((*kept, view[start:end], END_OF_JPEG))
        end = len(data) - len(END_OF_JPEG)
    while data[end - 1] == 0xFF:
        end -= 1
    return JpegParts(data, end, ended)


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments as libjpeg comes by them, up to the end marker (ISO/IEC 10918-1, annex B). Raises ImageError."""
    position, stray = 2, 0
    for _ in range(MAX_SEGMENTS):
        limit = position + MAX_STRAY - stray + 2
        found = _MARKER.search(data, position, limit)
        if found is None and limit >= len(data):
            return
        stray += found.start() - position if found else MAX_STRAY
        if found is None or stray > MAX_STRAY:
            raise _stray_error()
        code, position = found[1][0], found.end()
        if code not in _ALONE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield _Segment(code, found.start(), position)
        if code == _END:
            return
        if code == _SCAN:
            position, filling = _end_of_scan(data, position, MAX_STRAY - stray)
            stray += filling
            if stray > MAX_STRAY:
                raise _stray_error()
    raise ImageError(f"The JPEG has more than the {MAX_SEGMENTS:,} segments allowed.", "Save it anew.")


def _stray_error() -> ImageError:
    return ImageError(f"The JPEG has over {MAX_STRAY:,} stray bytes between its segments.", "Save it anew.")


def _end_of_scan(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Where the coded data at `position` ends, with the number of 0xFF in it that stand for nothing.

    It is not looked for any further when these are more than `most`.
    """
    samples, size, filling = np.frombuffer(data, np.uint8), _FIRST_PIECE, 0
    while position < len(data) - 1 and filling <= most:  # in pieces, so that other threads have their turn
        piece = samples[position : position + size + 1]
        escaped = piece[:-1] == 0xFF
        codes = piece[1:][escaped].tobytes()
        if markers := codes.translate(None, _INSIDE_SCAN):
            first = codes.index(markers[0])
            return position + int(np.flatnonzero(escaped)[first]), filling + codes.count(0xFF, 0, first)
        filling += codes.count(0xFF)
        position += size
        size = min(2 * size, _LAST_PIECE)
    return len(data), filling


def _all_is_sent(frame: bytes, scans: list[bytes]) -> bool:
    """Whether the scans have brought the last bit of all 64 coefficients of each of the frame's components."""
    if frame[1] not in (0xC0, 0xC1, _PROGRESSIVE):  # of arithmetic codes no decoder says that data is missing
        return False
    due = {component: set(range(64)) for component in frame[10::3]}
    for scan in scans:
        components, (first, last, bits) = scan[5:-3:2], scan[-3:]
        if frame[1] != _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        for component in components if bits & 0xF == 0 else b"":
            due.get(component, set()).difference_update(range(first, last + 1))
    return not any(due.values())


def png_of_pixels(data: bytes) -> bytes:
    """A PNG file without what tells nothing of the pixels of its first image.

    Pillow would unpack texts, to a thousand times their size, and keep them beside the pixels; it would warn of broken
    animations. What is cut short comes back so. Raises ImageError for endless or unknown chunks and a missing header.
    """
    view, kept, start, last = memoryview(data), [], 0, 8
    for name, begin, end in chunks(data):
        if (name == b"IHDR") != (begin == 8):
            raise undecodable("the PNG file does not begin with its header, IHDR, or has another")
        if name[:1].isupper() and name not in _CRITICAL:
            raise undecodable(f"the PNG file has an unknown chunk, {name.decode()}, that cannot be left out")
        if name not in _CRITICAL or (name == b"IDAT" and end == begin + 12):
            if start < begin:
                kept.append(view[start:begin])
            start = end
        last = end
    return _joined((*kept, view[start:last])) if kept or last < len(data) else data


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG file, up to IEND or to where none begins. Raises ImageError for endless ones.

    Of each its name, where its length begins and where its checksum ends, maybe beyond the file.
    """
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, name = _CHUNK.unpack_from(data, position)
        if not name.isalpha():
            return
        end = position + 12 + length
        yield name, position, end
        position = end
        if name == b"IEND":
            return
    raise ImageError(f"The PNG file has more than the {MAX_CHUNKS:,} chunks allowed.", "Save it anew.")


def require_checksums(data: bytes) -> None:
    """Raise ValueError for a PNG file of pixels that a checksum contradicts. IEND may be cut short."""
    view = memoryview(data)
    for name, start, end in chunks(data):
        if name == b"IEND" and end > len(data):
            return
        if zlib.crc32(view[start + 4 : end - 4]).to_bytes(4, "big") != view[end - 4 : end]:
            raise ValueError(f"the checksum of its chunk {name.decode()} is wrong, or the chunk cut short")


def inflates_to(data: bytes, least: int) -> bool:
    """Whether the image data of a PNG file is of at least so many bytes when unpacked."""
    view, unpacker, count = memoryview(data), zlib.decompressobj(), 0
    try:
        for name, start, end in chunks(data):
            content = view[start + 8 : end - 4] if name == b"IDAT" else b""
            for place in range(0, len(content), _INFLATED):  # which give a thousand times as much at most
                count += len(unpacker.decompress(content[place : place + _INFLATED]))
                if count >= least or unpacker.eof:  # what follows the end would be kept, and copied each time
                    return count >= least
    except zlib.error:
        pass
    return False


def exif_of(data: bytes) -> memoryview:
    """The Exif data of a JPEG or PNG file, which is in the form of TIFF; empty if there is none. Raises ImageError."""
    view = memoryview(data)
    if data.startswith(b"\x89PNG"):
        for name, start, end in chunks(data):
            if name == b"eXIf":
                start += len(_EXIF_MARK) if data.startswith(_EXIF_MARK, start + 8) else 0
                return view[start + 8 : end - 4]
        return view[:0]
    for code, start, end in _segments(data):
        if code == _SCAN:
            break
        if code == _EXIF and data.startswith(_EXIF_MARK, start + 4):
            return view[start + 4 + len(_EXIF_MARK) : end]
    return view[:0]


def _joined(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The pieces as one, copied little by little, so that other threads have their turn."""
    file = io.BytesIO()
    for piece in pieces:
        for place in range(0, len(piece), _PIECE):
            file.write(piece[place : place + _PIECE])
    return file.getvalue()
