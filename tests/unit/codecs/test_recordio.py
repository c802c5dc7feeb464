from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from itertools import chain, repeat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mxnet_records import MAGIC, as_mxnet_writes

from semseg.codecs.recordio import MAX_PAYLOAD, frame, read_records
from semseg.errors import DataError, TooLargeError

MANY = 10_000_000

payloads = st.lists(st.sampled_from([MAGIC, b"\x0a\x23", b"\xd7\xce", b"A", b"BCD", b"\0"]), max_size=8).map(b"".join)
streams = st.lists(payloads, max_size=5)


def whole(payload: bytes) -> bytes:
    return b"".join(frame([payload]))


def read_all(stream: bytes, max_bytes: int = MANY) -> list[bytes]:
    return list(read_records(io.BytesIO(stream).read, "train_0", max_bytes))


def error_of(stream: bytes, max_bytes: int = MANY) -> DataError:
    with pytest.raises(DataError) as caught:
        read_all(stream, max_bytes)
    return caught.value


class TestFrame:
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
    def test_a_record_is_magic_length_payload_and_padding(self, payload: list[bytes], record: str) -> None:
        assert b"".join(frame(payload)) == bytes.fromhex(record)

    def test_the_payload_is_passed_on_without_a_copy(self) -> None:
        part = memoryview(b"payload")
        assert any(piece is part for piece in frame([part]))

    def test_a_payload_beyond_the_length_word_is_an_error(self) -> None:
        fits = memoryview(bytearray(2**20))
        assert len(frame([fits] * 511)) == 513
        with pytest.raises(TooLargeError, match=f"{MAX_PAYLOAD:,}"):
            frame([fits] * 512)


class TestReader:
    @given(streams, st.sampled_from([whole, as_mxnet_writes]), st.integers(1, 9))
    def test_any_payloads_come_back_however_short_the_reads(
        self, records: list[bytes], write: Callable[[bytes], bytes], at_most: int
    ) -> None:
        file = io.BytesIO(b"".join(map(write, records)))
        assert list(read_records(lambda size: file.read(min(size, at_most)), "train_0", MANY)) == records

    @given(streams, payloads, st.sampled_from([whole, as_mxnet_writes]), st.data())
    def test_a_cut_stream_gives_the_records_before_the_cut_and_an_error(
        self, records: list[bytes], last: bytes, write: Callable[[bytes], bytes], data: st.DataObject
    ) -> None:
        begin, end = b"".join(map(write, records)), write(last)
        cut = data.draw(st.integers(1, len(end) - 1))
        reader = read_records(io.BytesIO(begin + end[:cut]).read, "train_0", MANY)
        assert [next(reader) for _ in records] == records
        with pytest.raises(
            DataError, match=f"^record {len(records)} of train_0 is cut short: .* byte {len(begin) + cut},"
        ):
            next(reader)

    @given(streams.map(lambda records: b"".join(map(as_mxnet_writes, records))), st.data())
    def test_a_damaged_stream_gives_records_or_an_error(self, stream: bytes, data: st.DataObject) -> None:
        damaged = bytearray(stream)
        for place in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=4) if stream else st.just([])):
            damaged[place] = data.draw(st.integers(0, 255))
        self.require_records_or_error(bytes(damaged))

    @given(st.binary(max_size=64))
    @example(MAGIC + b"\xff\xff\xff\x1f")
    @example(MAGIC + b"\x00\x00\x00\x20" + MAGIC)
    def test_noise_gives_records_or_an_error(self, noise: bytes) -> None:
        self.require_records_or_error(noise)

    def require_records_or_error(self, stream: bytes) -> None:
        records, error = [], ""
        try:
            for record in read_records(io.BytesIO(stream).read, "train_0", MANY):
                records.append(record)  # noqa: PERF402 - those before an error count
        except DataError as caught:
            error = caught.message
        assert sum(map(len, records)) <= len(stream)
        assert not error or error.startswith(f"record {len(records)} of train_0")

    @given(st.lists(payloads, min_size=1, max_size=4), st.sampled_from([whole, as_mxnet_writes]))
    def test_no_byte_is_read_before_its_turn(self, records: list[bytes], write: Callable[[bytes], bytes]) -> None:
        file = io.BytesIO(b"".join(map(write, records)) + b"what follows")
        reader = read_records(file.read, "train_0", MANY)
        for number, record in enumerate(records, 1):
            assert next(reader) == record
            assert file.tell() == sum(len(write(before)) for before in records[:number])

    def test_a_length_that_does_not_arrive_costs_nothing(self) -> None:
        asked: list[int] = []
        file = io.BytesIO(MAGIC + MAX_PAYLOAD.to_bytes(4, "little") + b"little")

        def read(size: int) -> bytes:
            asked.append(size)
            return file.read(size)

        tracemalloc.start()
        with pytest.raises(DataError, match="536870905 more bytes of its payload"):
            list(read_records(read, "train_0", MAX_PAYLOAD))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000
        assert max(asked) <= 2**20

    def test_a_record_beyond_the_limit_is_an_error_before_it_is_read(self) -> None:
        file = io.BytesIO(whole(b"fits") + whole(b"does not fit"))
        reader = read_records(file.read, "train_0", 4)
        assert next(reader) == b"fits"
        with pytest.raises(
            DataError, match=r"^record 1 of train_0: at byte 12 it grows to 12 bytes, more than the 4 allowed"
        ):
            next(reader)
        assert file.tell() == 12 + 8

    def test_parts_count_together_even_without_a_payload(self) -> None:
        endless = chain([MAGIC + b"\0\0\0\x20"], repeat(MAGIC + b"\0\0\0\x40"))
        with pytest.raises(DataError, match="more than the 4000 allowed"):
            list(read_records(lambda size: next(endless), "train_0", 4000))

    @pytest.mark.parametrize(
        ("stream", "message"),
        [
            (MAGIC + b"\x05\0", "stream ends at byte 6, where 2 more bytes of its header are expected"),
            (whole(b"hello")[:11], "stream ends at byte 11, where 2 more bytes of its payload are expected"),
            (whole(b"hello")[:14], "stream ends at byte 14, where 2 more bytes of its padding are expected"),
            (as_mxnet_writes(MAGIC)[:8], "stream ends at byte 8, where 8 more bytes of its header are expected"),
        ],
        ids=["header", "payload", "padding", "between parts"],
    )
    def test_a_truncation_is_located_to_the_byte(self, stream: bytes, message: str) -> None:
        assert message in error_of(stream).message
        assert "stopped too early" in error_of(stream).hint

    @pytest.mark.req("R41")
    def test_other_bytes_than_recordio_are_an_error_with_the_setting_to_change(self) -> None:
        error = error_of(whole(b"one") + b"\x89PNG\r\n\x1a\n" + bytes(100))
        assert error.message == "record 1 of train_0: at byte 12 it has 89504e47, not RecordIO's magic number 0a23d7ce."
        assert error.hint == "RecordWrapperType must be RecordIO."

    @pytest.mark.parametrize("flag", range(8))
    @pytest.mark.parametrize("begun", [b"", MAGIC + b"\0\0\0\x20", MAGIC + b"\0\0\0\x20" + MAGIC + b"\0\0\0\x40"])
    def test_parts_come_in_their_order(self, begun: bytes, flag: int) -> None:
        stream = begun + MAGIC + (flag << 29).to_bytes(4, "little")
        if flag == (3 if begun else 0):
            assert len(read_all(stream)) == 1
        elif flag in ((2,) if begun else (1,)):
            assert error_of(stream).message.startswith("record 0 of train_0 is cut short")
        else:
            expected = "2 or 3" if begun else "0 or 1"
            assert error_of(stream).message == (
                f"record 0 of train_0: at byte {len(begun)} it has a part with the flag {flag}, "
                f"but {expected} is expected."
            )
