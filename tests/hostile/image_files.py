"""JPEG and PNG files of every kind, what can be wrong with them beyond damaged bytes, and files in other formats."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any, get_args

import numpy as np
from mutations import damaged
from PIL import Image
from tiff_files import Order, page, tiff

_SIZES = (0, 1, 2, 8, 17, 63, 64, 65, 255, 256, 4095, 65_535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_PNG = b"\x89PNG\r\n\x1a\n"
_BOMB_BYTES = 64 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def hostile_image(random: Random) -> bytes:
    """An image with something wrong, or only unusual, about it."""
    kinds: tuple[Callable[[Random], bytes], ...] = (_changed_png, _changed_jpeg, _cut, _damaged, _damaged)
    image = random.choice(kinds)(random)
    return damaged(random, image) if random.random() < 0.1 else image


@cache
def good_images() -> tuple[bytes, ...]:
    """Small files of all forms that the two formats have."""
    return (*_good_jpegs(), *_good_pngs())


@cache
def images_in_other_formats() -> tuple[bytes, ...]:
    """Small TIFF, BMP and WebP files of several forms."""
    image = _pixels()
    pixels = np.asarray(image)
    compressions = ("raw", "tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate")
    return (
        *(_saved(image, "TIFF", compression=compression) for compression in compressions),
        _saved(image, "TIFF", compression="tiff_lzw", tile=(16, 16)),
        _saved(image.convert("P"), "TIFF"),
        *(tiff(page(pixels), page(pixels[::2, ::2], {254: 1}), order=order) for order in get_args(Order)),
        _saved(image, "TIFF", big_tiff=True, save_all=True, append_images=[image]),
        _saved(image.convert("1"), "TIFF", compression="group4"),
        _saved(Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)), "TIFF"),
        *(_saved(image.convert(mode), "BMP") for mode in ("RGB", "P", "L", "1")),
        *(_saved(image.convert(mode), "WEBP", lossless=exact) for mode in ("RGB", "RGBA") for exact in (False, True)),
    )


def _damaged(random: Random) -> bytes:
    return damaged(random, random.choice(good_images()), good_images())


def _cut(random: Random) -> bytes:
    """A part, maybe with what makes it look whole: zeros, the end of a file, or another file."""
    file = random.choice(good_images())
    rest = random.choice((b"", bytes(len(file)), b"\xff\xd9", b"\xff" * 999 + b"\xff\xd9", _chunk(b"IEND", b""), file))
    return file[: random.randrange(len(file))] + rest


def _pixels(width: int = 21, height: int = 13) -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@cache
def _good_jpegs() -> tuple[bytes, ...]:
    image = _pixels()
    rotated = Image.Exif()
    rotated[0x0112] = 6
    return (
        *(_saved(image.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK")),
        *(_saved(image, "JPEG", subsampling=kind, quality=kind * 40 + 10) for kind in (0, 1, 2)),
        *(_saved(image.convert(mode), "JPEG", progressive=True) for mode in ("RGB", "L", "CMYK")),
        _saved(image, "JPEG", restart_marker_blocks=1),
        _saved(image, "JPEG", exif=rotated, icc_profile=bytes(70_000), comment=b"a comment"),
        _saved(_pixels(1, 1), "JPEG"),
        _saved(_pixels(64, 63), "JPEG", optimize=True),
    )


@cache
def _good_pngs() -> tuple[bytes, ...]:
    image = _pixels()
    rotated = Image.Exif()
    rotated[0x0112] = 8
    forms = [(depth, color) for depth in (1, 2, 4, 8, 16) for color in _CHANNELS if _exists(depth, color)]
    return (
        *(_png(depth, color, interlaced) for depth, color in forms for interlaced in (False, True)),
        *(_saved(image.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        _saved(image.convert("P"), "PNG", transparency=bytes(range(200))),
        _saved(image, "PNG", transparency=(1, 2, 3), icc_profile=bytes(70_000), exif=rotated, dpi=(72, 72)),
        _saved(image, "PNG", save_all=True, append_images=[_pixels(7, 5)]),
        _saved(_pixels(64, 63), "PNG"),
    )


def _exists(depth: int, color: int) -> bool:
    return depth == 8 or (depth < 8 and color in (0, 3)) or (depth == 16 and color != 3)


def _png(depth: int, color: int, interlaced: bool, width: int = 11, height: int = 9) -> bytes:
    """A PNG file by its specification (RFC 2083); Pillow writes no interlaced ones, nor most of 16 bits."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = []
    for x, y, right, down in passes:
        columns = len(range(x, width, right))
        size = -(-columns * _CHANNELS[color] * depth // 8)
        rows += [bytes([row % 5]) + bytes(range(size)) for row in range(y, height, down) if columns]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    palette = [(b"PLTE", bytes(range(3 << depth & 0xFF)) * (3 if depth == 8 else 1))] if color == 3 else []
    return _joined([(b"IHDR", header), *palette, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])


def _joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return _PNG + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(_PNG)
    while place < len(file):
        size = int.from_bytes(file[place : place + 4], "big")
        found.append((file[place + 4 : place + 8], file[place + 8 : place + 8 + size]))
        place += size + 12
    return found


def _changed_png(random: Random) -> bytes:
    """A PNG file whose chunks are changed, all checksums right but for one in four files."""
    chunks = _chunks(random.choice(_good_pngs()))
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(chunks))
        kind, content = chunks[place]
        match random.randrange(8):
            case 0:
                del chunks[place]
            case 1:
                chunks.insert(random.randint(0, len(chunks)), chunks[place])
            case 2:
                random.shuffle(chunks)
            case 3 | 4 if chunks[0][0] == b"IHDR":
                chunks[0] = (b"IHDR", _changed_header(random, chunks[0][1]))
            case 5 if kind == b"IDAT":
                chunks[place] = (kind, _packed_anew(random, content))
            case 6:
                chunks.insert(random.randint(1, len(chunks)), _extra_chunk(random))
            case _:
                chunks[place] = (kind, damaged(random, content))
        chunks = chunks or [(b"IEND", b"")]
    file = _joined(chunks)
    return _with_a_lie(random, file) if random.random() < 0.25 else file


def _changed_header(random: Random, header: bytes) -> bytes:
    if len(header) != 13 or random.random() < 0.1:
        return damaged(random, header)
    fields = list(struct.unpack(">IIBBBBB", header))
    place = random.randrange(7)
    fields[place] = random.choice(_SIZES if place < 2 else (0, 1, 2, 3, 4, 6, 8, 16, 255))
    return struct.pack(">IIBBBBB", *fields)


def _packed_anew(random: Random, content: bytes) -> bytes:
    """Other rows in a sound zlib stream: too few, too many, of unknown filters."""
    try:
        return zlib.compress(damaged(random, zlib.decompress(content)))
    except zlib.error:
        return damaged(random, content)


def _extra_chunk(random: Random) -> tuple[bytes, bytes]:
    """A chunk that PNG knows, with a content that it should not have."""
    bomb = _bomb()
    return random.choice(
        (
            (b"IDAT", bomb),
            (b"zTXt", b"k\0\0" + bomb),
            (b"iTXt", b"k\0\1\0en\0k\0" + bomb),
            (b"iCCP", b"k\0\0" + bomb),
            (b"iCCP", b"k\0\0" + random.randbytes(9)),
            (b"tEXt", b"k\0" + b"a" * random.choice((70_000, 1_100_000))),
            (b"tEXt", random.randbytes(300)),
            (b"eXIf", random.choice((b"II*\0", b"MM\0*")) + random.randbytes(random.randint(0, 60))),
            (b"PLTE", random.randbytes(random.choice((0, 1, 3, 767, 768, 771)))),
            (b"tRNS", random.randbytes(random.choice((0, 1, 2, 6, 256, 300)))),
            (b"gAMA", random.randbytes(random.choice((0, 3, 4)))),
            (b"cHRM", random.randbytes(random.choice((0, 31, 32)))),
            (b"pHYs", random.randbytes(random.choice((0, 8, 9)))),
            (b"acTL", struct.pack(">II", random.choice(_SIZES), random.choice(_SIZES))),
            (b"fcTL", random.randbytes(random.choice((0, 25, 26)))),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, *(random.choice(_SIZES) for _ in range(4)), 1, 1, 0, 0)),
            (b"fdAT", random.randbytes(random.randint(0, 40))),
            (bytes(random.choices(b"azAZ\0 \xff", k=4)), random.randbytes(20)),
        )
    )


def _with_a_lie(random: Random, file: bytes) -> bytes:
    """The length or the checksum of a chunk is another."""
    place, changed = len(_PNG), bytearray(file)
    for _ in range(random.randrange(4)):
        place += 12 + int.from_bytes(file[place : place + 4], "big")
    lie = struct.pack(">I", random.choice(_SIZES))
    place = random.choice((place, max(0, place - 4)))
    changed[place : place + 4] = lie
    return bytes(changed)


@cache
def _bomb() -> bytes:
    """A zlib stream of a thousandth of what it unpacks to."""
    return zlib.compress(bytes(_BOMB_BYTES), 9)


def _segments(file: bytes) -> list[bytes]:
    """A JPEG file cut before each of its markers; scans keep their coded data."""
    cuts, place = [0, 2], 2
    while place < len(file) - 1:
        marker = file[place + 1]
        place += 2 + (int.from_bytes(file[place + 2 : place + 4], "big") if marker != 0xD9 else 0)
        while marker == 0xDA and (file[place] != 0xFF or file[place + 1] in range(0xD0, 0xD8) or not file[place + 1]):
            place += 1
        cuts.append(place)
    return [file[start:end] for start, end in pairwise(cuts)]


def _changed_jpeg(random: Random) -> bytes:
    """A JPEG file whose segments are changed, their lengths right but for some."""
    segments = _segments(random.choice(_good_jpegs()))
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(segments))
        match random.randrange(8):
            case 0:
                del segments[place]
            case 1:
                segments.insert(random.randint(0, len(segments)), segments[place])
            case 2:
                random.shuffle(segments)
            case 3 | 4:
                segments = [_changed_frame(random, part) if _is_frame(part) else part for part in segments]
            case 5:
                segments.insert(random.randint(1, len(segments)), _extra_segment(random))
            case 6:
                head = segments[place][:2] + struct.pack(">H", random.choice((0, 1, 2, 3, 255, 65_535)))
                segments[place] = head + segments[place][4:]
            case _:
                segments[place] = segments[place][:4] + damaged(random, segments[place][4:])
        if random.random() < 0.2:
            segments.insert(
                random.randint(1, len(segments)),
                random.choice((b"\0", b"\xff", b"\xff\0")) * random.choice(_SIZES[:11]),
            )
        segments = segments or [b"\xff\xd8"]
    return b"\xff\xd8" * (random.random() < 0.3) + b"".join(segments)


def _is_frame(segment: bytes) -> bool:
    return segment[1:2] in (b"\xc0", b"\xc1", b"\xc2") and len(segment) >= 15


def _changed_frame(random: Random, segment: bytes) -> bytes:
    """Another size, precision, number of components, sampling or kind of coding."""
    changed = bytearray(segment)
    match random.randrange(5):
        case 0:
            place = random.choice((5, 7))
            changed[place : place + 2] = struct.pack(">H", random.choice(_SIZES) & 0xFFFF)
        case 1:
            changed[4] = random.choice((0, 1, 2, 12, 16, 255))
        case 2:
            changed[9] = random.choice((0, 1, 2, 3, 4, 5, 255))
        case 3:
            changed[random.choice((11, 14 if len(changed) > 14 else 11))] = random.choice(
                (0, 0x11, 0x14, 0x41, 0x44, 0xFF)
            )
        case _:
            changed[1] = random.choice(range(0xC0, 0xD0))
    return bytes(changed)


def _extra_segment(random: Random) -> bytes:
    """A segment that JPEG knows, with a content that it should not have."""
    exif = b"Exif\0\0" + random.choice((b"II*\0", b"MM\0*")) + random.randbytes(random.randint(0, 60))
    marker, content = random.choice(
        (
            (0xE1, exif),
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000),
            (0xE2, b"ICC_PROFILE\0" + bytes([random.randrange(4), random.randrange(4)]) + bytes(60_000)),
            (0xE2, b"MPF\0" + random.choice((b"II*\0", b"MM\0*")) + random.randbytes(random.randint(0, 60))),
            (0xEE, b"Adobe" + random.randbytes(random.choice((0, 6, 7)))),
            (0xED, b"Photoshop 3.0\0" + b"8BIM" + random.randbytes(random.randint(0, 40))),
            (0xE0, b"JFIF\0" + random.randbytes(random.choice((0, 5, 9)))),
            (0xFE, b"a" * 65_000),
            (0xDB, bytes([random.choice((0, 1, 4, 0x10, 0xFF))]) + random.randbytes(random.choice((0, 63, 64, 128)))),
            (0xC4, bytes([random.choice((0, 1, 4, 0x10, 0xFF))]) + random.randbytes(random.choice((0, 16, 100)))),
            (0xDD, struct.pack(">H", random.choice((0, 1, 65_535)))),
            (0xDC, struct.pack(">H", random.choice((0, 1, 65_535)))),
            (random.randrange(256), random.randbytes(random.randint(0, 40))),
        )
    )
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
