"""What the Exif data of a JPEG or PNG file says of how to show it; Pillow would read all of it, and warn of faults."""

from __future__ import annotations

import struct

from semseg.codecs.image_parts import exif_of
from semseg.errors import ImageError

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION, _SHORT = 0x0112, 3


def orientation(data: bytes) -> int:
    """How viewers that heed Exif turn a JPEG or PNG file (EXIF 2.3, tag Orientation): 1 to 8, 1 being as stored.

    That is also said of what cannot be read.
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
