"""Records as MXNet writes them, without MXNet; tests/parity compares."""

from __future__ import annotations

from itertools import repeat

MAGIC = b"\x0a\x23\xd7\xce"


def as_mxnet_writes(payload: bytes) -> bytes:
    """A record split as MXRecordIO does it: wherever the magic number occurs at a multiple of 4."""
    words = [payload[place : place + 4] for place in range(0, len(payload), 4)]
    parts = [bytearray()]
    for word in words:
        if word == MAGIC:
            parts.append(bytearray())
        else:
            parts[-1] += word
    flags = [0] if len(parts) == 1 else [1, *repeat(2, len(parts) - 2), 3]
    return b"".join(
        MAGIC + (flag << 29 | len(part)).to_bytes(4, "little") + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )
