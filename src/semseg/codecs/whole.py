"""Pillow's images of JPEG and PNG files, changed to give all their pixels or none.

Pillow keeps libjpeg's warnings to itself, looks at no checksum of pixels, and takes the end of a PNG file's data for
that of its pixels. What was not there is black or grey then.
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

from semseg.codecs.image_parts import (
    END_OF_JPEG,
    JpegParts,
    inflates_to,
    jpeg_frame,
    jpeg_parts,
    png_of_pixels,
    require_checksums,
)
from semseg.codecs.kinds import require_usual_coding
from semseg.types import UInt8

try:
    import simplejpeg
except ImportError:  # clients and notebooks do without: what it decodes, Pillow does too, more slowly
    simplejpeg = None

_CUT_SHORT = "the JPEG file's coded data ends before its pixels do"
_MORE_DATA = b"".join(b"\xa5\x5a" * 16 + bytes([0xFF, restart]) for restart in range(0xD0, 0xD8))
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}
"""By the number of components, the mode of the image and that of the data: CMYK inverted, as Adobe writes it."""

_UNREAD = 0xA5
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type
_AT_ONCE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ROWS_OF_PRINT = 64


class WholeJpeg(JpegImageFile):
    """A JPEG file whose size and mode are read. Raises ImageError and SyntaxError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        """Called once. Pillow's own would go through all metadata, byte by byte where it is none."""
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
    def _parts(self) -> JpegParts:
        return jpeg_parts(self._data)

    def decode(self, factor: int) -> tuple[UInt8, int]:
        """The pixels uint8 (H, W, 3), RGB, at 1/factor of the size (1, 2, 4 or 8), and the factor that it came to.

        Where simplejpeg is not to be had, or stumbles over what takes no pixel away, Pillow decodes, in full.
        Raises OSError for a file of which data is missing, and what Pillow raises.
        """
        if simplejpeg:
            try:
                return self._decode_fast(factor), factor
            except ValueError as error:  # also of a warning, the first: simplejpeg tells of no others
                if not self._parts.ended or "premature end" in str(error).lower():
                    raise OSError(_CUT_SHORT) from error
        self.load()
        return np.asarray(self.convert("RGB")), 1

    def _decode_fast(self, factor: int) -> UInt8:
        """Decode by simplejpeg, into no more memory than the size that was checked takes. Raises ValueError."""
        space = "CMYK" if self.mode == "CMYK" else "RGB"
        height, width = -(-self.height // factor), -(-self.width // factor)
        pixels = np.empty((height, width, len(space)), np.uint8)
        decoded = simplejpeg.decode_jpeg(self._parts.data, space, min_height=height, min_width=width, buffer=pixels)
        if decoded.shape != pixels.shape:
            raise ValueError("two headers")
        if space == "CMYK":
            image = Image.frombytes("CMYK", (width, height), cast(bytes, pixels), "raw", _MODES[4][1])
            return np.asarray(image.convert("RGB"))
        return pixels

    def load(self) -> Any:
        """Decode by Pillow, twice: if bytes before the end marker change the pixels, data was missing there."""
        if not self.tile:
            return super().load()
        tile, prints = self.tile, set()
        for more in (_MORE_DATA, b""):
            self.tile, self.fp, self._rest = list(tile), io.BytesIO(self._parts.data), more + END_OF_JPEG
            super().load()
            prints.add(self._print())
        if len(prints) > 1:
            raise OSError(_CUT_SHORT)
        return super().load()

    def load_read(self, read_bytes: int) -> bytes:
        """Called by Pillow for the next bytes of the file."""
        file = cast(io.BytesIO, self.fp)
        if piece := file.read(min(read_bytes, self._parts.end - file.tell())):
            return piece
        piece, self._rest = self._rest, b""
        return piece

    def _print(self) -> int:
        """A checksum of the decoded pixels, without a copy of them all."""
        crc = 0
        for top in range(0, self.height, _ROWS_OF_PRINT):
            rows = self.crop((0, top, self.width, min(top + _ROWS_OF_PRINT, self.height)))
            crc = zlib.crc32(rows.tobytes(), crc)
        return crc


class WholePng(PngImageFile):
    """A PNG file whose header is read. `load` raises ValueError for damage and missing rows, and what Pillow raises."""

    def __init__(self, data: bytes) -> None:
        self._data = png_of_pixels(data)
        super().__init__(io.BytesIO(self._data))

    def load_prepare(self) -> None:
        """Called by `load` before decoding: checks what is there, and marks a pixel of the row that is decoded last."""
        require_checksums(self._data)
        if self.mode == "P" and self.palette is None:
            raise ValueError("the PNG file has no palette")
        super().load_prepare()
        bands = len(self.getbands())
        self.im.putpixel(self._last_pixel(), _UNREAD if bands == 1 else (_UNREAD,) * bands)
        self._unread = self.im.getpixel(self._last_pixel())

    def load_end(self) -> None:
        """Called by `load` after decoding: if the mark is still there, it is a pixel, or there was no such row."""
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
        """The size of all rows, with a byte for the filter before each, not yet compressed (PNG, sections 7 and 8)."""
        depth, colour = self._data[24:26]  # IHDR is the first chunk
        count = 0
        for x, y, right, down in _ADAM7 if self.info.get("interlace") else _AT_ONCE:
            columns, rows = len(range(x, self.width, right)), len(range(y, self.height, down))
            count += rows * (1 + (columns * _CHANNELS[colour] * depth + 7) // 8) if columns else 0
        return count
