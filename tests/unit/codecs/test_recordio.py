from __future__ import annotations

import pytest

from semseg.codecs.recordio import MAX_PAYLOAD, frame
from semseg.errors import TooLargeError


@pytest.mark.req("R52")
@pytest.mark.parametrize(
    ("payload", "record"),
    [
        ([], "0a23d7ce 00000000"),
        ([b"a"], "0a23d7ce 01000000 61000000"),
        ([b"he", memoryview(b"llo")], "0a23d7ce 05000000 68656c6c 6f000000"),
        ([b"four"], "0a23d7ce 04000000 666f7572"),
        ([b"AAAA\x0a\x23\xd7\xceBB"], "0a23d7ce 0a000000 41414141 0a23d7ce 42420000"),
    ],
    ids=["empty", "padded", "parts", "aligned", "with the magic number, not split"],
)
def test_a_record_is_magic_length_payload_and_padding(payload: list[bytes], record: str) -> None:
    assert b"".join(frame(payload)) == bytes.fromhex(record)


def test_the_payload_is_passed_on_without_a_copy() -> None:
    part = memoryview(b"payload")
    assert any(piece is part for piece in frame([part]))


def test_a_payload_beyond_the_length_word_is_an_error() -> None:
    fits = memoryview(bytearray(2**20))
    assert len(frame([fits] * 511)) == 513
    with pytest.raises(TooLargeError, match=f"{MAX_PAYLOAD:,}"):
        frame([fits] * 512)
