from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from semseg.codecs.recordio import Buffer
from semseg.serving.response_bodies import gzipped, pieces

LARGE = np.random.default_rng(0).integers(0, 9, 5_000_001, np.uint8)


@pytest.mark.parametrize("parts", [[], [b""], [b"x"], [b"head", LARGE.data, b"", b"tail"]])
def test_the_pieces_are_the_parts(parts: list[Buffer]) -> None:
    sent = list(pieces(parts))
    assert all(isinstance(piece, bytes) for piece in sent)
    assert b"".join(sent) == b"".join(parts)


@pytest.mark.parametrize("parts", [[], [b""], [b"x"], [b"head", LARGE.data, b"", b"tail"]])
def test_gzip_gives_the_same_bytes_again(parts: list[Buffer]) -> None:
    sent = list(gzipped(pieces(parts)))
    assert gzip.decompress(b"".join(sent)) == b"".join(parts)
    assert all(sent)


@pytest.mark.parametrize("packed", [False, True])
def test_a_large_body_is_never_there_twice(packed: bool) -> None:
    tracemalloc.start()
    for _ in gzipped(pieces([LARGE.data])) if packed else pieces([LARGE.data]):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(LARGE)
