"""Pillow's images of JPEG and PNG files, made to raise an error when pixels are missing.

Pillow swallows libjpeg's warnings, ignores the checksums of pixels, and accepts PNG data that ends too early. It would
fill missing pixels with black or grey.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cached_property
from typing import Any, cast

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from semseg.codecs.kinds import require_usual_coding
from semseg.codecs.segments import (
    END_OF_JPEG,
    CleanJpeg,
    clean_jpeg,
    clean_png,
    inflates_to,
    jpeg_frame,
    require_checksums,
)
from semseg.types import UInt8

try:
    import simplejpeg
except ImportError:  # optional for clients and notebooks: Pillow decodes the same, more slowly
    simplejpeg = None

_CUT_SHORT = "the JPEG file's coded data ends before its pixels do"
_EXTRA_DATA = b"".join(b"\xa5\x5a" * 16 + bytes([0xFF, restart]) for restart in range(0xD0, 0xD8))
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}
"""The modes of the image and of its data, by the number of components. CMYK is inverted, as Adobe writes it."""

_UNREAD = 0xA5
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_NOT_INTERLACED = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ROWS_AT_ONCE = 64


class StrictJpeg(JpegImageFile):
    """A JPEG file, opened but not decoded. Raises ImageError and SyntaxError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        """Read size and mode. Called once. Pillow's own method would read all metadata, and stray bytes one by one."""
        frame = jpeg_frame(self._data)
        require_usual_coding(frame)
        bits, height, width, layers = struct.unpack_from(">BHHB", frame, 4)
        if bits != 8:
            raise SyntaxError(f"its samples have {bits} bits, not 8")
        if layers not in _MODES:
            raise SyntaxError(f"it has {layers} components, not 1, 3 or 4")
        self._mode, raw_mode = _MODES[layers]
        self._size = width, height
        self.tile = [ImageFile._Tile("jpeg", (0, 0, width, height), 0, (raw_mode, ""))]

    @cached_property
    def _clean(self) -> CleanJpeg:
        return clean_jpeg(self._data)

    def decode(self, factor: int) -> tuple[UInt8, int]:
        """Decode to uint8 (H, W, 3), RGB, at 1/factor of the size (1, 2, 4 or 8); returns also the factor used.

        Where simplejpeg is missing, or warns of a fault that costs no pixels, Pillow decodes, at full size.
        Raises OSError for a file with missing data, and whatever Pillow raises.
        """
        if simplejpeg:
            try:
                return self._decode_fast(factor), factor
            except ValueError as error:  # raised also for a warning, and only for the first
                if not self._clean.ended or "premature end" in str(error).lower():
                    raise OSError(_CUT_SHORT) from error
        self.load()
        return np.asarray(self.convert("RGB")), 1

    def _decode_fast(self, factor: int) -> UInt8:
        """Decode with simplejpeg, into a buffer of the size that was checked. Raises ValueError."""
        space = "CMYK" if self.mode == "CMYK" else "RGB"
        height, width = -(-self.height // factor), -(-self.width // factor)
        pixels = np.empty((height, width, len(space)), np.uint8)
        decoded = simplejpeg.decode_jpeg(self._clean.data, space, min_height=height, min_width=width, buffer=pixels)
        if decoded.shape != pixels.shape:
            raise ValueError("two headers")
        if space == "CMYK":
            image = Image.frombytes("CMYK", (width, height), cast(bytes, pixels), "raw", _MODES[4][1])
            return np.asarray(image.convert("RGB"))
        return pixels

    def load(self) -> Any:
        """Decode with Pillow, twice: if extra data before the end marker changes the pixels, data was missing there."""
        if not self.tile:
            return super().load()
        tile, checksums = self.tile, set()
        for extra in (_EXTRA_DATA, b""):
            self.tile, self.fp, self._rest = list(tile), io.BytesIO(self._clean.data), extra + END_OF_JPEG
            super().load()
            checksums.add(self._checksum())
        if len(checksums) > 1:
            raise OSError(_CUT_SHORT)
        return super().load()

    def load_read(self, read_bytes: int) -> bytes:
        """Return the next bytes of the file. Called by Pillow."""
        file = cast(io.BytesIO, self.fp)
        if piece := file.read(min(read_bytes, self._clean.end - file.tell())):
            return piece
        piece, self._rest = self._rest, b""
        return piece

    def _checksum(self) -> int:
        """A checksum of the decoded pixels, without copying them all."""
        crc = 0
        for top in range(0, self.height, _ROWS_AT_ONCE):
            rows = self.crop((0, top, self.width, min(top + _ROWS_AT_ONCE, self.height)))
            crc = zlib.crc32(rows.tobytes(), crc)
        return crc


class StrictPng(PngImageFile):
    """A PNG file, opened but not decoded. `load` raises ValueError for damage or missing rows, or Pillow's errors."""

    def __init__(self, data: bytes) -> None:
        self._data = clean_png(data)
        super().__init__(io.BytesIO(self._data))

    def load_prepare(self) -> None:
        """Check the file, and mark a pixel of the row that is decoded last. Called by `load` before decoding."""
        require_checksums(self._data)
        if self.mode == "P" and self.palette is None:
            raise ValueError("the PNG file has no palette")
        super().load_prepare()
        bands = len(self.getbands())
        self.im.putpixel(self._last_pixel(), _UNREAD if bands == 1 else (_UNREAD,) * bands)
        self._unread = self.im.getpixel(self._last_pixel())

    def load_end(self) -> None:
        """Raise ValueError if rows are missing. Called by `load` after decoding.

        If the mark is still there, it is the true pixel or its row was missing: the size of the data decides.
        """
        super().load_end()
        if self.im.getpixel(self._last_pixel()) == self._unread and not inflates_to(self._data, self._raw_bytes()):
            raise ValueError("the PNG file's data ends before its rows do")

    def _last_pixel(self) -> tuple[int, int]:
        """(x, y) of a pixel in the row that comes last in the file."""
        if not self.info.get("interlace"):
            return 0, self.height - 1
        if self.height == 1:
            return min(1, self.width - 1), 0
        return 0, self.height // 2 * 2 - 1

    def _raw_bytes(self) -> int:
        """The size of all rows before compression, with the filter byte of each (PNG, sections 7 and 8)."""
        depth, colour = self._data[24:26]  # IHDR is the first chunk
        count = 0
        for x, y, right, down in _ADAM7 if self.info.get("interlace") else _NOT_INTERLACED:
            columns, rows = len(range(x, self.width, right)), len(range(y, self.height, down))
            count += rows * (1 + (columns * _CHANNELS[colour] * depth + 7) // 8) if columns else 0
        return count
