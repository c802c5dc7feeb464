from __future__ import annotations

import fcntl
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from semseg.codecs.recordio import frame
from semseg.data.files import LoadedFile
from semseg.data.pairs import Pair
from semseg.data.pipe import Pipe
from semseg.errors import DataError

JPEG = b"\xff\xd8\xff\xe0 an image"
PNG = b"\x89PNG\r\n\x1a\n a mask"
ATTRIBUTES = "AttributeNames must be [image, annotation]"


def stream(*payloads: bytes) -> bytes:
    return b"".join(part for payload in payloads for part in frame([payload]))


def never() -> bool:
    return False


def read(path: Path, stop: Callable[[], bool] = never, timeout: float = 30) -> list[Pair]:
    """All pairs of ``<path>_0``."""
    return list(Pipe(path, stop, timeout).pairs(0, never))


def in_background(write: Callable[[], None]) -> Future[None]:
    """Run the platform's part in a thread."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            write()
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def write_into(path: Path, data: bytes) -> Future[None]:
    """Wait for a reader, write all, leave."""

    def write() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)

    return in_background(write)


@contextmanager
def stalled(fifo: Path, data: bytes) -> Iterator[int]:
    """A FIFO with data whose writer neither goes on nor leaves; with its descriptor."""
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        if data:
            os.write(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


def open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """The path of the channel train."""
    return tmp_path / "train"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Its first FIFO."""
    path = tmp_path / "train_0"
    os.mkfifo(path)
    return path


class TestReading:
    @pytest.mark.req("R18", "R35", "R41")
    def test_records_are_image_and_annotation_in_turn(self, channel: Path, fifo: Path) -> None:
        writer = write_into(fifo, stream(JPEG + b"0", PNG + b"1", PNG + b"2", PNG + b"3"))
        assert read(channel) == [
            Pair(LoadedFile("record 0 of train_0", JPEG + b"0"), LoadedFile("record 1 of train_0", PNG + b"1")),
            Pair(LoadedFile("record 2 of train_0", PNG + b"2"), LoadedFile("record 3 of train_0", PNG + b"3")),
        ]
        writer.result(30)

    def test_much_more_than_the_fifo_holds(self, channel: Path, fifo: Path) -> None:
        masks = [PNG + bytes([number]) * 300_000 for number in range(10)]
        writer = write_into(fifo, stream(*(payload for mask in masks for payload in (JPEG, mask))))
        assert [pair.mask.read() for pair in read(channel)] == masks
        writer.result(30)

    def test_each_number_is_a_fifo_of_its_own(self, tmp_path: Path) -> None:
        for number in range(3):
            os.mkfifo(tmp_path / f"validation_{number}")
            write_into(tmp_path / f"validation_{number}", stream(JPEG, PNG + bytes([number])))
        pipe = Pipe(tmp_path / "validation", never, 30)
        assert pipe.stream(2) == "validation_2"
        (pair,) = pipe.pairs(2, never)
        assert (pair.mask.name, pair.mask.read()) == ("record 1 of validation_2", PNG + b"\2")

    def test_a_file_in_its_place_is_read(self, channel: Path) -> None:
        channel.with_name("train_0").write_bytes(stream(JPEG, PNG, JPEG, PNG))
        assert len(read(channel)) == 2

    def test_the_fifo_is_made_to_hold_more(self, channel: Path) -> None:
        with stalled(channel.with_name("train_0"), stream(JPEG, PNG)) as descriptor:
            before = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
            with closing(Pipe(channel, never, 30).pairs(0, never)) as pairs:
                next(pairs)
                assert fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) == 2**20 > before


class TestWaiting:
    def at_the_third_look(self, act: Callable[[], object]) -> Callable[[], bool]:
        """A `stop` that always says no, but acts when it is asked for the third time."""
        looks = count(1)

        def stop() -> bool:
            if next(looks) == 3:
                act()
            return False

        return stop

    def test_a_fifo_that_comes_late(self, channel: Path) -> None:
        def create() -> None:
            os.mkfifo(channel.with_name("train_0"))
            write_into(channel.with_name("train_0"), stream(JPEG, PNG))

        assert len(read(channel, self.at_the_third_look(create))) == 1

    def test_a_writer_that_comes_late(self, channel: Path, fifo: Path) -> None:
        stop = self.at_the_third_look(lambda: write_into(fifo, stream(JPEG, PNG)))
        assert len(read(channel, stop)) == 1

    def test_data_that_come_late(self, channel: Path) -> None:
        data = stream(JPEG, PNG)
        with stalled(channel.with_name("train_0"), data[:5]) as descriptor:
            stop = self.at_the_third_look(lambda: os.write(descriptor, data[5:]))
            assert next(Pipe(channel, stop, 30).pairs(0, never)).image.read() == JPEG

    def test_no_fifo(self, channel: Path) -> None:
        with pytest.raises(DataError, match=r"^train_0 was not created within 0\.05 s\. .* Pipe"):
            read(channel, timeout=0.05)

    def test_no_writer(self, channel: Path, fifo: Path) -> None:
        with pytest.raises(DataError, match=r"^No data came from train_0 for 0 s, after 0 bytes\."):
            read(channel, timeout=0)
        assert str(fifo) not in open_files()

    def test_a_writer_that_hangs(self, channel: Path) -> None:
        message = r"^No data came from train_0 for 0 s, after 30 bytes\."
        with stalled(channel.with_name("train_0"), stream(JPEG, PNG)[:30]), pytest.raises(DataError, match=message):
            read(channel, timeout=0)

    @pytest.mark.parametrize("who", ["the job", "the consumer"])
    @pytest.mark.parametrize("there", [None, b"", stream(JPEG, PNG)[:5], stream(JPEG)])
    def test_the_job_and_the_consumer_can_stop_waiting(self, channel: Path, there: bytes | None, who: str) -> None:
        looks = count(1)

        def given_up() -> bool:
            return next(looks) > 6

        stop, cancelled = (given_up, never) if who == "the job" else (never, given_up)
        pairs = Pipe(channel, stop, 30).pairs(0, cancelled)
        if there is None:
            assert list(pairs) == []
        else:
            with stalled(channel.with_name("train_0"), there):
                assert list(pairs) == []
        assert next(looks) <= 12


class TestEnding:
    def test_closing_early_stops_the_writer(self, channel: Path, fifo: Path) -> None:
        writer = write_into(fifo, stream(*[JPEG + bytes(1000), PNG + bytes(1000)] * 5_000))
        pairs = Pipe(channel, never, 30).pairs(0, never)
        next(pairs)
        assert str(fifo) in open_files()
        pairs.close()
        assert isinstance(writer.exception(30), BrokenPipeError)
        assert str(fifo) not in open_files()

    def test_a_writer_killed_within_a_record(self, channel: Path, fifo: Path) -> None:
        data = stream(JPEG, PNG, JPEG, PNG + bytes(1000))
        (channel.parent / "data").write_bytes(data[:500])
        program = 'exec >"$0"; cat "$1"; echo written >&2; read -r line'
        command = ["sh", "-c", program, str(fifo), str(channel.parent / "data")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
            pairs = Pipe(channel, never, 30).pairs(0, never)
            next(pairs)
            assert writer.stderr
            writer.stderr.readline()
            writer.kill()
            with pytest.raises(DataError, match=r"^record 3 of train_0 is cut short: the stream ends at byte 500,"):
                next(pairs)
        assert str(fifo) not in open_files()

    @pytest.mark.req("R38")
    def test_an_image_without_annotation(self, channel: Path, fifo: Path) -> None:
        write_into(fifo, stream(JPEG, PNG, JPEG))
        with pytest.raises(
            DataError, match=rf"^train_0 ends after record 2, an image without .*{re.escape(ATTRIBUTES)}"
        ):
            read(channel)

    def test_a_stream_of_nothing(self, channel: Path, fifo: Path) -> None:
        write_into(fifo, b"")
        with pytest.raises(DataError, match=r"^train_0 ended without a record\."):
            read(channel)

    def test_what_breaks_while_the_job_stops_is_no_error(self, channel: Path) -> None:
        file = channel.with_name("train_0")
        file.write_bytes(stream(JPEG, PNG, JPEG, PNG)[:-10])
        opened: list[bool] = []

        def stop() -> bool:
            """Not before the stream has ended and is closed."""
            opened.append(str(file) in open_files())
            return any(opened) and not opened[-1]

        assert len(read(channel, stop)) == 1
        with pytest.raises(DataError, match="cut short"):
            read(channel)

    def test_a_directory_in_its_place(self, channel: Path) -> None:
        channel.with_name("train_0").mkdir()
        with pytest.raises(DataError, match=r"^train_0 cannot be read: Is a directory"):
            read(channel)


class TestKinds:
    @pytest.mark.req("R38", "R40", "R48")
    @pytest.mark.parametrize(
        ("record", "kind"),
        [
            (JPEG, "a JPEG file"),
            (b"GIF89a\x01\x00", "a GIF file"),
            (b"II*\0\x08\0\0\0", "a TIFF file"),
            (b"MM\0*\0\0\0\x08", "a TIFF file"),
            (b"BM\x3a\0\0\0\0\0", "a BMP file"),
            (b"RIFF\x1a\0\0\0WEBPVP8L", "a WebP file"),
            (b"\x1f\x8b\x08\0", "gzip data"),
            (b"", "an empty record"),
            (b' {"job-name": "label-city-streets"}', "JSON text"),
            (b'"1"', "JSON text"),
            (b"1", "text"),
            (b"BMW, Audi\r\n", "text"),
            (b"\0" * 7, "a run of zero bytes"),
            (b"\7\xfe" * 4, "8 bytes of something else"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        ],
    )
    def test_what_came_instead_of_an_annotation_is_named(
        self, channel: Path, fifo: Path, record: bytes, kind: str
    ) -> None:
        write_into(fifo, stream(*[JPEG, PNG] * 8, JPEG, record))
        pairs = Pipe(channel, never, 30).pairs(0, never)
        for _ in range(8):
            next(pairs)
        with pytest.raises(DataError) as caught:
            next(pairs)
        assert str(caught.value) == f"record 17 of train_0: expected a PNG file, got {kind}; {ATTRIBUTES}"

    def test_what_came_instead_of_an_image_is_an_error_at_once(self, channel: Path) -> None:
        with stalled(channel.with_name("train_0"), stream(b"GIF89a\x01\x00")), pytest.raises(DataError) as caught:
            read(channel)
        assert (
            str(caught.value)
            == f"record 0 of train_0: expected a JPEG file or a PNG file, got a GIF file; {ATTRIBUTES}"
        )

    @pytest.mark.req("R41")
    def test_a_stream_without_the_wrapper(self, channel: Path, fifo: Path) -> None:
        write_into(fifo, JPEG + PNG)
        with pytest.raises(DataError, match=r"^record 0 of train_0: at byte 0 it has ffd8ffe0.* must be RecordIO\.$"):
            read(channel)
