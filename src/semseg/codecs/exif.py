"""Reads the Exif orientation of a JPEG or PNG file. Pillow would read all of the Exif data and warn of faults in it."""

from __future__ import annotations

import struct

from semseg.codecs.segments import exif_of
from semseg.errors import ImageError

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION, _SHORT = 0x0112, 3


def orientation(data: bytes) -> int:
    """Return the orientation in which viewers show a JPEG or PNG file (EXIF 2.3, tag Orientation): 1 to 8.

    1 is as stored, and is also returned when there is none or it cannot be read.
    """
    try:
        exif = exif_of(data)
        order = _BYTE_ORDERS[bytes(exif[:4])]
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if (tag, kind) == (_ORIENTATION, _SHORT):
                return value if value in range(1, 9) else 1
    except (ImageError, KeyError, struct.error):
        pass
    return 1
