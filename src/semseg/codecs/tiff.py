"""Pillow's image of a TIFF file, made to keep the pixels as they are stored, of the one page that is a whole image.

TIFF 6.0 names the tags. Files for maps and microscopes have smaller copies of their image, or its transparency, as
further pages.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import islice
from typing import cast

from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, MAX_SAMPLESPERPIXEL, TiffImageFile

from semseg.codecs.images import MAX_PIXELS
from semseg.errors import ImageError

_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 254, 258, 262, 274, 339
_COMPRESSION, _SAMPLES_PER_PIXEL, _TILE_SIDES, _PLACES = 259, 277, (322, 323), (273, 324)
_SMALLER, _TRANSPARENCY = 1, 4
"""Bits of NewSubfileType: the page is a smaller copy of another, or says where another is transparent."""

_SIGNED, _SEPARATE_PLANES, _WHITE_IS_ZERO = 2, 2, 0
_MOST_PAGES = 64
"""More than an image can have: each copy has half the width and height of another."""


class StoredTiff(TiffImageFile):
    """A TIFF file of one image, opened but not decoded. Raises ImageError for several, and Pillow's errors.

    Pillow turns images as the orientation says; here it is kept as Exif data, as JPEG and PNG files have it: the data
    check compares that of image and mask.
    """

    @property
    def unusual_samples(self) -> str:
        """What samples have that are neither 0 to 255 nor 0 to 65535, though Pillow reads them as such; else empty."""
        if self.mode == "I;16" and self._numbers(_BITS_PER_SAMPLE) == (12,):
            return "12 bits"
        return "a sign" if _SIGNED in self._numbers(_SAMPLE_FORMAT) else ""

    def _open(self) -> None:
        """Open the page that is a whole image. Called once."""
        super()._open()
        page = _whole_page(cast(io.BytesIO, self.fp).getvalue())
        if page is None:
            raise ImageError("The file has several images.", "Save each of them as a file.")
        self.seek(page)
        self.is_animated = False

    def _setup(self) -> None:
        orientation = self.tag_v2.pop(_ORIENTATION, None)
        self._require_compression()
        if max(self._numbers(_SAMPLES_PER_PIXEL), default=1) > MAX_SAMPLESPERPIXEL:
            raise self._unknown_samples()
        try:
            super()._setup()
        except SyntaxError as error:
            if any(tag in self.tag_v2 for tag in _PLACES):  # there are pixels, of a kind that Pillow does not know
                raise self._unknown_samples() from error
            raise
        self._require_tiles()
        self._require_order()
        self.info.pop("exif", None)
        if orientation in range(2, 9):
            exif = Image.Exif()
            exif[_ORIENTATION] = orientation
            self.info["exif"] = exif.tobytes()

    def _require_compression(self) -> None:
        for compression in self._numbers(_COMPRESSION):
            if compression not in COMPRESSION_INFO:
                raise ImageError(
                    f"The TIFF file's compression, {compression}, is not read.", "Save it with deflate or LZW."
                )

    def _unknown_samples(self) -> ImageError:
        bands, bits = (max(self._numbers(tag), default=1) for tag in (_SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE))
        return ImageError(
            f"The TIFF file's samples, {bands} for a pixel, with {bits} bits, are of a kind that is not read.",
            "Save it as RGB or grey with 8 bits.",
        )

    def _require_tiles(self) -> None:
        """Raise ImageError for tiles that are larger than an image may be: a whole one is decoded at a time."""
        width, height = (self.tag_v2.get(side, 1) for side in _TILE_SIDES)
        if not (isinstance(width, int) and isinstance(height, int) and width * height <= MAX_PIXELS):
            raise ImageError(
                f"The TIFF file's tiles have {width} x {height} pixels, more than the {MAX_PIXELS} allowed.",
                "Save it without tiles, or with smaller ones.",
            )

    def _require_order(self) -> None:
        """Raise ImageError for 16 bits in an order that Pillow takes for another, without an error."""
        if 16 not in self._numbers(_BITS_PER_SAMPLE):
            return
        if self._planar_configuration == _SEPARATE_PLANES and not self.use_load_libtiff:
            raise ImageError(
                "The TIFF file has colours of 16 bits in separate planes.",
                "Save each pixel's together, or compress it.",
            )
        if self.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO:
            raise ImageError("The TIFF file has 16 bits in which 0 is white.", "Save it so that 0 is black.")

    def _numbers(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag, which may have anything else in a spoilt file."""
        value = self.tag_v2.get(tag, ())
        return tuple(number for number in (value if isinstance(value, tuple) else (value,)) if isinstance(number, int))

    def load_end(self) -> None:
        """Do nothing. Called after decoding; Pillow's own method turns the image."""


def _whole_page(data: bytes) -> int | None:
    """The number of the only page that is no copy or transparency of another; None if there are several."""
    kinds = list(islice(_subfile_types(data), _MOST_PAGES + 1))
    whole = [number for number, kind in enumerate(kinds) if not kind & (_SMALLER | _TRANSPARENCY)]
    if len(kinds) == 1:
        return 0
    return whole[0] if len(whole) == 1 and len(kinds) <= _MOST_PAGES else None


def _subfile_types(data: bytes) -> Iterator[int]:
    """Yield the NewSubfileType of each page, 0 where it has none. Raises struct.error for a file that is cut short.

    A page has the number of its tags, the tags, and the place of the next page. NewSubfileType has the lowest number of
    all tags, which are sorted. BigTIFF differs in the sizes of the numbers.
    """
    order = "<" if data.startswith(b"II") else ">"
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    count, place, start = ("Q", "Q", 8) if version == 43 else ("H", "I", 4)
    entry = struct.Struct(f"{order}HH{place}{place}")
    seen: set[int] = set()
    (page,) = struct.unpack_from(order + place, data, start)
    while page and page not in seen:
        seen.add(page)
        (entries,) = struct.unpack_from(order + count, data, page)
        first = page + struct.calcsize(order + count)
        tag, kind, *_ = entry.unpack_from(data, first) if entries else (0, 0)
        value = {3: "H", 4: "I"}.get(kind) if tag == _NEW_SUBFILE_TYPE else None
        yield struct.unpack_from(order + value, data, first + entry.size - struct.calcsize(place))[0] if value else 0
        (page,) = struct.unpack_from(order + place, data, first + entries * entry.size)
