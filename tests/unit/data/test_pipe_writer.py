from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from semseg.codecs.recordio import MAGIC, frame
from semseg.data.files import LoadedFile
from semseg.data.pairs import Pair
from semseg.data.pipe import Pipe
from semseg.data.pipe_writer import write_pipe_until
from semseg.errors import DataError, UserError

JPEG = b"\xff\xd8\xff\xe0 an image"
PNG = b"\x89PNG\r\n\x1a\n a mask"


def never() -> bool:
    return False


def some_pairs(number: int, size: int = 1) -> list[Pair]:
    """Pairs that differ, with masks of `size` bytes or a little more."""
    return [
        Pair(LoadedFile(f"{index}.jpg", JPEG + b"%d" % index), LoadedFile(f"{index}.png", PNG + bytes(size)))
        for index in range(number)
    ]


def contents(pairs: list[Pair]) -> list[tuple[bytes, bytes]]:
    return [(pair.image.read(), pair.mask.read()) for pair in pairs]


def read(directory: Path, number: int) -> list[Pair]:
    return list(Pipe(directory / "train", never, 30).pairs(number, never))


class Feeding:
    """`write_pipe_until` in a thread."""

    def __init__(self, pairs: list[Pair], directory: Path, epochs: int | None) -> None:
        self.stop = threading.Event()
        self.created = threading.Event()
        self.error: BaseException | None = None
        self._arguments = (self._should_stop, pairs, directory, "train", epochs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            write_pipe_until(*self._arguments)
        except BaseException as error:
            self.error = error

    def _should_stop(self) -> bool:
        if (self._arguments[2] / "train_0").is_fifo():
            self.created.set()
        return self.stop.is_set()

    def ended(self) -> bool:
        self._thread.join(30)
        return not self._thread.is_alive()


class TestFeeding:
    @pytest.mark.req("R35", "R41")
    def test_every_epoch_is_a_fifo_with_all_pairs(self, tmp_path: Path) -> None:
        pairs = some_pairs(50, 40_000)
        feeding = Feeding(pairs, tmp_path / "input/data", epochs=3)
        for epoch in range(3):
            assert contents(read(tmp_path / "input/data", epoch)) == contents(pairs)
        assert feeding.ended()
        assert feeding.error is None
        assert not list((tmp_path / "input/data").iterdir())

    def test_a_plain_blocking_reader_gets_one_record_after_the_other(self, tmp_path: Path) -> None:
        feeding = Feeding([Pair(LoadedFile("a", JPEG), LoadedFile("b", PNG))] * 2, tmp_path, epochs=1)
        assert feeding.created.wait(30)
        records = [*frame([JPEG]), *frame([PNG])] * 2
        assert (tmp_path / "train_0").read_bytes() == b"".join(records)
        assert feeding.ended()

    def test_a_reader_that_leaves_gets_the_next_epoch(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        pairs = some_pairs(100, 100_000)
        with caplog.at_level(logging.INFO, "semseg"):
            feeding = Feeding(pairs, tmp_path, epochs=2)
            with closing(Pipe(tmp_path / "train", never, 30).pairs(0, never)) as begun:
                next(begun)
            assert contents(read(tmp_path, 1)) == contents(pairs)
            assert feeding.ended()
        left, written = caplog.messages
        assert re.fullmatch(r"train_0: the reader left after \d\d? pairs\.", left)
        assert written == "train_1: all 100 pairs were written."
        assert feeding.error is None
        assert not list(tmp_path.iterdir())

    def test_without_a_number_epochs_go_on_until_stopped(self, tmp_path: Path) -> None:
        feeding = Feeding(some_pairs(2), tmp_path, epochs=None)
        for epoch in range(5):
            assert len(read(tmp_path, epoch)) == 2
        feeding.stop.set()
        assert feeding.ended()
        assert not list(tmp_path.iterdir())

    def test_it_stops_while_nothing_is_read(self, tmp_path: Path) -> None:
        looks = count(1)
        there: list[bool] = []

        def stop() -> bool:
            there.append((tmp_path / "train_0").is_fifo())
            return next(looks) > 3

        write_pipe_until(stop, some_pairs(2), tmp_path, "train", None)
        assert any(there)
        assert not list(tmp_path.iterdir())

    def test_stopped_while_the_reader_does_not_go_on(self, tmp_path: Path) -> None:
        feeding = Feeding(some_pairs(100, 100_000), tmp_path, epochs=None)
        with closing(Pipe(tmp_path / "train", never, 30).pairs(0, never)) as begun:
            next(begun)
            feeding.stop.set()
            assert feeding.ended()
            assert feeding.error is None
            assert not list(tmp_path.iterdir())

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        broken = Pair(LoadedFile("a", JPEG), LoadedFile("b", DataError("line 4 of train.manifest: s3://b/k is gone.")))
        feeding = Feeding([*some_pairs(1), broken], tmp_path, epochs=1)
        with pytest.raises(DataError, match="record 2 of train_0 is cut short"):  # it is not all there was to come
            read(tmp_path, 0)
        assert feeding.ended()
        assert isinstance(feeding.error, DataError)
        assert "s3://b/k is gone" in feeding.error.message
        assert not list(tmp_path.iterdir())

    def test_a_full_pipe_does_not_end_cleanly_either(self, tmp_path: Path) -> None:
        """The first pair fills it to the last byte; the reader takes that when the writer looks whether to stop."""
        record = b"".join(frame([JPEG]))
        mask = PNG.ljust(65536 - len(record) - 8)
        pairs = [
            Pair(LoadedFile("a", JPEG), LoadedFile("b", mask)),
            Pair(LoadedFile("c", DataError("c is gone.")), LoadedFile("d", PNG)),
        ]
        readers: list[io.FileIO] = []
        received: list[bytes | None] = []

        def stop() -> bool:
            if readers:
                received.append(readers[0].read(65536))
            elif (tmp_path / "train_0").is_fifo():
                readers.append(io.FileIO(os.open(tmp_path / "train_0", os.O_RDONLY | os.O_NONBLOCK)))
            return False

        with pytest.raises(DataError, match="c is gone"):
            write_pipe_until(stop, pairs, tmp_path, "train", 1)
        with readers[0] as reader:
            received.append(reader.read())
        assert b"".join(filter(None, received)) == record + b"".join(frame([mask])) + MAGIC.to_bytes(4, "little")

    def test_what_has_the_name_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "train_0").write_text("precious")
        with pytest.raises(UserError, match=r"train_0 already exists\. Remove it"):
            write_pipe_until(never, some_pairs(1), tmp_path, "train", 1)
        assert (tmp_path / "train_0").read_text() == "precious"

    def test_a_directory_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="train_0 cannot be created: Not a directory"):
            write_pipe_until(never, some_pairs(1), tmp_path / "file/data", "train", 1)
        with pytest.raises(UserError, match=r"/file is not a directory\."):
            write_pipe_until(never, some_pairs(1), tmp_path / "file", "train", 1)

    def test_a_fifo_that_vanishes(self, tmp_path: Path) -> None:
        def stop() -> bool:
            (tmp_path / "train_0").unlink(missing_ok=True)
            return False

        with pytest.raises(UserError, match="train_0 cannot be written: No such file"):
            write_pipe_until(stop, some_pairs(1), tmp_path, "train", 1)


class TestSignals:
    PROGRAM = (
        "import sys\n"
        "from pathlib import Path\n"
        "from semseg.data.pipe_writer import write_pipe\n"
        "from semseg.data.files import LocalFile\n"
        "from semseg.data.pairs import Pair\n"
        "image, mask, directory = map(Path, sys.argv[1:])\n"
        "write_pipe([Pair(LocalFile(image), LocalFile(mask))] * 3, directory, 'train', None)\n"
    )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("epochs", [0, 1], ids=["writing", "waiting for a reader"])
    def test_a_signal_ends_it_and_no_fifo_is_left(self, tmp_path: Path, number: signal.Signals, epochs: int) -> None:
        data = tmp_path / "data"
        (tmp_path / "a.jpg").write_bytes(JPEG)
        (tmp_path / "a.png").write_bytes(PNG + bytes(2_000_000))
        command = [sys.executable, "-c", self.PROGRAM, *map(str, (tmp_path / "a.jpg", tmp_path / "a.png", data))]
        with subprocess.Popen(command) as writer:
            for epoch in range(epochs):
                assert len(read(data, epoch)) == 3
            with closing(Pipe(data / "train", never, 30).pairs(0, never)) as begun:
                if not epochs:
                    next(begun)
                writer.send_signal(number)
                assert writer.wait(30) == 0
        assert not list(data.iterdir())
