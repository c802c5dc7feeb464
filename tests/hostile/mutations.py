"""What storage, networks and attackers do to bytes, whatever the bytes mean."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 4095, 65535, 1 << 20, (1 << 29) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_LONG_NUMBERS = (*_NUMBERS, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_DEEP = range(900, 1010)
"""Brackets within brackets: about as many as Python's own stack allows."""

_ODD = ("null", "true", "[]", "{}", '""', '"a"', "0", "-0", "-1", "1.5", "255", "256", "1e400", "-1e400", "NaN",
        "Infinity", "1e-320", "1_000", "0x10", "\u0663", r'"\ud800"', '"\ud800"', r'"\u0000"', '"\x01"', r'"\u202e"',
        r'"a\nError: b"', '"#000000"', '["#000000", 1]', '"\u0663"', '" 1"')  # fmt: skip
_LONG = ("9" * 4300, "9" * 4301, '"' + "9" * 5000 + '"', '"' + "a" * 900_000 + '"', str(list(range(5000))),
         "{" + ", ".join(f'"{number}": {number}' for number in range(300)) + "}")  # fmt: skip


def damaged(random: Random, data: bytes, others: Sequence[bytes] = (b"",)) -> bytes:
    """The data with one to four faults; others: of which parts may be put in."""
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_FAULTS)(random, data, random.choice(others))
    return data


def _flip_bits(random: Random, data: bytes, _other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, data: bytes, _other: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _drop(random: Random, data: bytes, _other: bytes) -> bytes:
    start, end = _range(random, data)
    return data[:start] + data[end:]


def _repeat(random: Random, data: bytes, _other: bytes) -> bytes:
    start, end = _range(random, data)
    return data[:end] + data[start:]


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    start, end = _range(random, other)
    place = random.randint(0, len(data))
    return data[:place] + other[start:end] + data[place + random.choice((0, end - start)) :]


def _noise(random: Random, data: bytes, _other: bytes) -> bytes:
    place, noise = random.randint(0, len(data)), random.randbytes(random.randint(1, 16))
    return data[:place] + noise + data[place + random.choice((0, len(noise))) :]


def _rewrite_number(random: Random, data: bytes, _other: bytes) -> bytes:
    form = random.choice(("B", ">H", "<H", ">I", "<I", ">Q", "<Q"))
    number = random.choice((*_LONG_NUMBERS, len(data), random.getrandbits(64))) % (1 << 8 * struct.calcsize(form))
    place = random.randint(0, len(data))
    return data[:place] + struct.pack(form, number) + data[place + struct.calcsize(form) :]


_FAULTS: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    _flip_bits,
    _cut,
    _drop,
    _repeat,
    _splice,
    _noise,
    _rewrite_number,
    _rewrite_number,
)


def _range(random: Random, data: bytes) -> tuple[int, int]:
    """Where a part begins and ends, a short one as often as one of any length."""
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((random.randint(0, 16), random.randint(0, len(data)))))


def odd_json(random: Random, document: Any) -> bytes:
    """The document as JSON with a value or a key that nobody expects, or with damaged text."""
    kind = random.randrange(4)
    if kind == 0:
        return damaged(random, json.dumps(document).encode())
    text = _swap(random, json.dumps(document), _odd_text(random)) if kind == 1 else _rebuilt(random, document)
    if random.random() < 0.1:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def _rebuilt(random: Random, document: Any) -> str:
    """As JSON, with some of its values, or the whole, replaced."""
    if random.random() < 0.2:
        return _odd_text(random)
    if isinstance(document, dict):
        entries = [f"{json.dumps(key)}: {_rebuilt(random, value)}" for key, value in document.items()]
        extra = random.choice(("", "", f", {json.dumps(random.choice(list(document) or ['']))}: {_odd_text(random)}"))
        return "{" + ", ".join(entries) + (extra if entries else "") + "}"
    if isinstance(document, list):
        return "[" + ", ".join(_rebuilt(random, value) for value in document) + "]"
    return json.dumps(document)


def _swap(random: Random, text: str, new: str) -> str:
    start = random.randint(0, len(text))
    return text[:start] + new + text[start + random.randint(0, 8) :]


def _odd_text(random: Random) -> str:
    """A JSON value, or something like one."""
    kind = random.random()
    if kind < 0.85:
        return random.choice(_ODD)
    if kind < 0.9:
        return random.choice(_LONG)
    depth = random.choice((1, 2, random.choice(_DEEP), random.choice(_DEEP), 20_000))
    return random.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth))
