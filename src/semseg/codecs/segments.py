"""Finds the segments of a JPEG file and the chunks of a PNG file before Pillow decodes it, and drops needless ones.

A few crafted ones can cost Pillow more than all pixels. Here every function takes time linear in the size of the file
and visits a limited number of segments or chunks.
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
"""A progressive JPEG has about 10 scans. A scan can be a few bytes long, but decoding it visits every pixel."""

MAX_SEGMENTS = 10_000
"""Limit for a JPEG. Each 64 kB of metadata and each scan is one segment."""

MAX_STRAY = 1 << 16
"""Limit for the stray bytes between the segments of a JPEG: 0xFF that pads a marker, and bytes of no segment. A decoder
that is fed piece by piece rescans a run of them with every piece."""

MAX_CHUNKS = 50_000
"""Limit for a PNG file. Encoders write pixels in chunks of 8 kB and more."""

END_OF_JPEG = b"\xff\xd9"

_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_SCAN, _END, _EXIF, _PROGRESSIVE = 0xDA, 0xD9, 0xE1, 0xC2
_EXIF_MARK = b"Exif\0\0"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # 0xF7: JPEG-LS
_RESTARTS = range(0xD0, 0xD8)
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, _END, *_RESTARTS})
_INSIDE_SCAN = bytes({0x00, 0xFF, *_RESTARTS})
"""The bytes that follow 0xFF within coded data; 0xFF itself pads the marker after it."""
_FIRST_PIECE, _LAST_PIECE = 1 << 15, 1 << 18

_PIECE = 1 << 20
_CHUNK = struct.Struct(">I4s")
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_PACKED_PIECE = 1 << 12

_SAVE_AGAIN = "Save it again."


class _Segment(NamedTuple):
    code: int
    start: int  # where its marker begins
    end: int  # of a scan, where its header ends and coded data begins


@dataclass(frozen=True)
class CleanJpeg:
    """A JPEG file without stray bytes, and with an end marker.

    data: the file. end: where its coded data ends. ended: whether the original file had an end marker.
    """

    data: bytes
    end: int
    ended: bool


def undecodable(what: object) -> ImageError:
    """Return the error for a damaged image."""
    return ImageError(f"The image cannot be decoded: {what}.", "It is damaged or cut short: save or copy it again.")


def jpeg_frame(data: bytes) -> bytes:
    """Return the frame header of a JPEG file, which declares size and coding, with its marker. Reads no coded data.

    Raises ImageError for too many segments or stray bytes, and for a file that is cut short before its first scan.
    """
    frame = b""
    for code, start, end in _segments(data):
        if code in _FRAMES:
            frame = frame or data[start:end]
        if code == _SCAN and frame and end <= len(data):
            return frame
    raise undecodable("the JPEG file is cut short before its pixels")


def clean_jpeg(data: bytes) -> CleanJpeg:
    """Return a JPEG file without its stray bytes. Whatever follows its end marker is ignored.

    A file without an end marker is accepted if it ends in the coded data of its last scan.
    Raises ImageError for too many scans, segments or stray bytes, and for a file that is cut short elsewhere.
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
            raise ImageError(f"The JPEG has more than the {MAX_SCANS} scans allowed.", _SAVE_AGAIN)
        last = segment
    ended = last.code == _END
    if not ended and (last.code != _SCAN or last.end > len(data) or not _is_complete(frame, scans)):
        raise undecodable("the JPEG file is cut short")
    end = last.start if ended else len(data)
    if kept or not ended:
        data = _joined((*kept, view[start:end], END_OF_JPEG))
        end = len(data) - len(END_OF_JPEG)
    while data[end - 1] == 0xFF:
        end -= 1
    return CleanJpeg(data, end, ended)


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments as libjpeg finds them, up to the end marker (ISO/IEC 10918-1, annex B). Raises ImageError."""
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
        if code not in _WITHOUT_LENGTH:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
        yield _Segment(code, found.start(), position)
        if code == _END:
            return
        if code == _SCAN:
            position, padding = _end_of_scan(data, position, MAX_STRAY - stray)
            stray += padding
            if stray > MAX_STRAY:
                raise _stray_error()
    raise ImageError(f"The JPEG has more than the {MAX_SEGMENTS:,} segments allowed.", _SAVE_AGAIN)


def _stray_error() -> ImageError:
    return ImageError(f"The JPEG has over {MAX_STRAY:,} stray bytes between its segments.", _SAVE_AGAIN)


def _end_of_scan(data: bytes, position: int, max_padding: int) -> tuple[int, int]:
    """Where the coded data at `position` ends, and the number of padding 0xFF in it.

    The search stops at more padding than `max_padding`.
    """
    samples, size, padding = np.frombuffer(data, np.uint8), _FIRST_PIECE, 0
    while position < len(data) - 1 and padding <= max_padding:  # in pieces, so that other threads can run
        piece = samples[position : position + size + 1]
        escaped = piece[:-1] == 0xFF
        codes = piece[1:][escaped].tobytes()
        if markers := codes.translate(None, _INSIDE_SCAN):
            first = codes.index(markers[0])
            return position + int(np.flatnonzero(escaped)[first]), padding + codes.count(0xFF, 0, first)
        padding += codes.count(0xFF)
        position += size
        size = min(2 * size, _LAST_PIECE)
    return len(data), padding


def _is_complete(frame: bytes, scans: list[bytes]) -> bool:
    """Whether the scans hold the last bit of all 64 coefficients of each of the frame's components."""
    if frame[1] not in (0xC0, 0xC1, _PROGRESSIVE):  # decoders of arithmetic coding do not report missing data
        return False
    missing = {component: set(range(64)) for component in frame[10::3]}
    for scan in scans:
        components, (first, last, bits) = scan[5:-3:2], scan[-3:]
        if frame[1] != _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        for component in components if bits & 0xF == 0 else b"":
            missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())


def clean_png(data: bytes) -> bytes:
    """Return a PNG file with only the chunks that the pixels of its first image need.

    Pillow would unpack texts to up to a thousand times their size, and warn of broken animations. A file that is cut
    short stays so. Raises ImageError for too many chunks, unknown critical chunks and a missing header.
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
    """Yield the chunks of a PNG file, up to IEND or to where none begins. Raises ImageError for too many of them.

    Each is its name, where its length begins and where its checksum ends, which may lie beyond the file.
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
    raise ImageError(f"The PNG file has more than the {MAX_CHUNKS:,} chunks allowed.", _SAVE_AGAIN)


def require_checksums(data: bytes) -> None:
    """Raise ValueError if the checksum of a chunk of a PNG file is wrong. IEND may be cut short."""
    view = memoryview(data)
    for name, start, end in chunks(data):
        if name == b"IEND" and end > len(data):
            return
        if zlib.crc32(view[start + 4 : end - 4]).to_bytes(4, "big") != view[end - 4 : end]:
            raise ValueError(f"the checksum of its chunk {name.decode()} is wrong, or the chunk is cut short")


def inflates_to(data: bytes, least: int) -> bool:
    """Return whether the image data of a PNG file has at least `least` bytes when unpacked."""
    view, unpacker, count = memoryview(data), zlib.decompressobj(), 0
    try:
        for name, start, end in chunks(data):
            content = view[start + 8 : end - 4] if name == b"IDAT" else b""
            for offset in range(0, len(content), _PACKED_PIECE):  # deflate expands at most a thousandfold
                count += len(unpacker.decompress(content[offset : offset + _PACKED_PIECE]))
                if count >= least or unpacker.eof:  # zlib would keep what follows the end, and copy it each time
                    return count >= least
    except zlib.error:
        pass
    return False


def exif_of(data: bytes) -> memoryview:
    """Return the Exif data of a JPEG or PNG file, in the format of TIFF; empty if there is none. Raises ImageError."""
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
    """The pieces joined, copied a megabyte at a time so that other threads can run."""
    file = io.BytesIO()
    for piece in pieces:
        for offset in range(0, len(piece), _PIECE):
            file.write(piece[offset : offset + _PIECE])
    return file.getvalue()
