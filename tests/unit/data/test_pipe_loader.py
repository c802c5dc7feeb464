from __future__ import annotations

import io
import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semseg.codecs.recordio import frame
from semseg.data.files import LoadedFile
from semseg.data.label_map import parse_label_map
from semseg.data.loader import TrainingLoader, ValidationLoader
from semseg.data.pairs import Pair
from semseg.data.pipe_loader import PipeTrainingLoader, PipeValidationLoader
from semseg.data.pipe_writer import write_pipe_until
from semseg.data.samples import Sampler
from semseg.errors import DataError
from semseg.types import Batch, UInt8

LABEL_MAP = parse_label_map({"scale": 1}, 250, "map.json")
SAMPLER = Sampler(LABEL_MAP, crop_size=8, base_size=16, seed=0, workers=2)


def never() -> bool:
    return False


def png(pixels: UInt8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pair(number: int, height: int = 8, width: int = 10) -> Pair:
    """A random image; its mask is all of its number."""
    rng = np.random.default_rng(number)
    image = png(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    mask = png(np.full((height, width), number, np.uint8))
    return Pair(LoadedFile(f"{number}", image), LoadedFile(f"mask of {number}", mask))


PAIRS = [pair(number) for number in range(17)]


def stream(pairs: list[Pair]) -> bytes:
    return b"".join(part for pair in pairs for file in (pair.image, pair.mask) for part in frame([file.read()]))


def training(path: Path, count: int, batch_size: int = 4, **kwargs: object) -> PipeTrainingLoader:
    options: dict[str, object] = {"sampler": SAMPLER, "stop": never, "timeout": 30, **kwargs}
    return PipeTrainingLoader(path, batch_size=batch_size, num_training_samples=count, **options)  # type: ignore[arg-type]


def validation(path: Path, batch_size: int, stop: Callable[[], bool] = never) -> PipeValidationLoader:
    return PipeValidationLoader(path, SAMPLER, batch_size, stop, 30)


def numbers(batch: Batch) -> list[int]:
    """Which pairs a batch consists of."""
    return [int(labels[0, 0]) for labels in batch.labels]


def row(loader: PipeTrainingLoader, epochs: int) -> list[int]:
    return [number for epoch in range(epochs) for batch in loader.epoch(epoch) for number in numbers(batch)]


def require_equal(found: Generator[Batch, None, None], expected: Generator[Batch, None, None]) -> None:
    for one, other in itertools.zip_longest(found, expected):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


def require_nothing_left(directory: Path) -> None:
    """No thread runs, no FIFO is open."""
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("semseg-data")]
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in links if link.is_relative_to(directory)]


class Platform:
    """Feeds a channel in a thread, epoch after epoch."""

    def __init__(self, pairs: list[Pair], directory: Path, channel: str = "train") -> None:
        self._stop = threading.Event()
        self._arguments = (self._stop.is_set, pairs, directory, channel, None)
        self._thread = threading.Thread(target=write_pipe_until, args=self._arguments, daemon=True)

    def __enter__(self) -> Platform:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Path]:
    """The path of the channel train; at the end nothing may be left open or running."""
    yield tmp_path / "train"
    require_nothing_left(tmp_path)


def put(channel: Path, *streams: bytes) -> None:
    """Files in the place of FIFOs."""
    for number, data in enumerate(streams):
        channel.with_name(f"{channel.name}_{number}").write_bytes(data)


class TestTraining:
    @pytest.mark.req("R18", "R35")
    def test_batches_are_those_of_files(self, channel: Path) -> None:
        with Platform(PAIRS, channel.parent):
            found = training(channel, 17, shuffle=False)
            files = TrainingLoader(PAIRS, SAMPLER, 4, shuffle=False)
            for epoch in range(5):
                require_equal(found.epoch(epoch), files.epoch(epoch))

    @pytest.mark.parametrize("workers", [0, 1, 5])
    @pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (1, 4), (2, 3), (5, 2), (7, 4), (11, 3), (16, 4)])
    def test_of_any_number_and_batch_size(self, channel: Path, count: int, batch_size: int, workers: int) -> None:
        put(channel, *[stream(PAIRS[:count])] * 3)
        sampler = Sampler(LABEL_MAP, 8, 16, 3, workers)
        found = training(channel, count, batch_size, sampler=sampler, shuffle=False)
        files = TrainingLoader(PAIRS[:count], sampler, batch_size, shuffle=False)
        for epoch in range(3):
            require_equal(found.epoch(epoch), files.epoch(epoch))

    @given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 8))
    def test_iterations_are_those_of_files(self, count: int, batch_size: int, epoch: int) -> None:
        files = TrainingLoader(PAIRS[:1] * count, SAMPLER, batch_size)
        assert training(Path("train"), count, batch_size).iterations(epoch) == files.iterations(epoch)

    def test_a_later_epoch_of_a_restarted_job_reads_the_first_fifo(self, channel: Path) -> None:
        put(channel, stream(PAIRS[:8]))
        found = training(channel, 8, shuffle=False).epoch(5)
        require_equal(found, TrainingLoader(PAIRS[:8], SAMPLER, 4, shuffle=False).epoch(5))

    def test_an_epoch_is_a_permutation_drawn_from_seed_and_epoch(self, channel: Path) -> None:
        put(channel, *[stream(PAIRS)] * 2)
        orders = []
        for seed in (0, 0, 1):
            sampler = Sampler(LABEL_MAP, 8, 16, seed, 2)
            orders.append(row(training(channel, 17, 17, sampler=sampler), 2))
        first, again, other = orders
        assert sorted(first[:17]) == sorted(first[17:]) == list(range(17))
        assert first == again != other
        assert first[:17] != first[17:]
        assert first[:17] != list(range(17))

    def test_a_pair_is_augmented_alike_wherever_the_shuffle_puts_it(self, channel: Path) -> None:
        put(channel, stream(PAIRS))
        (straight,) = training(channel, 17, 17, shuffle=False).epoch(0)
        (mixed,) = training(channel, 17, 17).epoch(0)
        np.testing.assert_array_equal(mixed.images, straight.images[numbers(mixed)])

    def test_the_stream_is_drained_while_no_batch_is_taken(self, channel: Path) -> None:
        pairs = [pair(number, 300, 300) for number in range(20)]
        data = stream(pairs)
        assert len(data) > 4 * 2**20
        fifo = channel.with_name("train_0")
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True)
        writer.start()
        with closing(training(channel, 20, 1).epoch(0)) as batches:
            next(batches)
            writer.join(30)
            assert not writer.is_alive()

    def test_closing_early_ends_all_and_the_next_epoch_can_be_read(self, channel: Path) -> None:
        pairs = [pair(number % 17, 300, 300) for number in range(60)]
        with Platform(pairs, channel.parent):
            loader = training(channel, 60, 2)
            batches = loader.epoch(0)
            next(batches)
            batches.close()  # or the platform would wait for its reader, and never come to the next epoch
            assert sum(1 for _ in loader.epoch(1)) == 30

    def test_a_failing_consumer_leaves_nothing(self, channel: Path) -> None:
        put(channel, stream(PAIRS))

        def consume() -> None:
            for _ in training(channel, 17).epoch(0):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()

    def test_a_broken_image_is_named_by_its_record(self, channel: Path) -> None:
        broken = Pair(LoadedFile("", PAIRS[3].image.read()[:60]), PAIRS[3].mask)
        put(channel, stream([*PAIRS[:3], broken, *PAIRS[4:]]))
        with pytest.raises(DataError, match=r"^record 6 of train_0: The image cannot be decoded"):
            row(training(channel, 17), 1)

    def test_a_writer_killed_within_a_record(self, channel: Path) -> None:
        data = stream(PAIRS)[:-10]
        program = (
            "import os, sys\n"
            "os.write(os.open(sys.argv[1], os.O_WRONLY), bytes.fromhex(sys.argv[2]))\n"
            "os.kill(os.getpid(), 9)\n"
        )
        fifo = channel.with_name("train_0")
        os.mkfifo(fifo)
        message = rf"^record 33 of train_0 is cut short: .* at byte {len(data)},"
        command = [sys.executable, "-c", program, str(fifo), data.hex()]
        with subprocess.Popen(command), pytest.raises(DataError, match=message):
            row(training(channel, 17), 1)

    def test_a_stream_too_short_for_a_batch(self, channel: Path) -> None:
        put(channel, stream(PAIRS[:3]))
        message = "^train_0 held 3 samples, too few for one batch of 4; num_training_samples is 17."
        with pytest.raises(DataError, match=message):
            row(training(channel, 17, 4), 1)

    def test_another_number_than_announced_is_logged_once(
        self, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(channel, *[stream(PAIRS)] * 3)
        with caplog.at_level(logging.WARNING, "semseg"):
            order = row(training(channel, 20, 5), 3)
        assert len(order) == 50
        (message,) = caplog.messages
        assert message.startswith("num_training_samples is 20, but train_0 held 17 samples; the learning rate")

    def test_smaller_batches_than_asked_for_are_logged_at_the_start(
        self, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        loader = training(channel, 3, batch_size=4)
        (message,) = caplog.messages
        assert message.startswith("num_training_samples is 3, mini_batch_size 4: each batch has only 3 images")
        assert message.endswith("set num_training_samples to their number.")
        put(channel, stream(PAIRS))
        assert [len(batch) for batch in loader.epoch(0)] == [3] * 5

    def test_batches_as_asked_for_are_not_logged(self, channel: Path, caplog: pytest.LogCaptureFixture) -> None:
        training(channel, 4, batch_size=4)
        assert not caplog.messages


class TestStopping:
    def test_before_the_first_batch_the_epoch_has_none(self, channel: Path) -> None:
        os.mkfifo(channel.with_name("train_0"))
        looks = itertools.count()
        assert row(training(channel, 17, stop=lambda: next(looks) > 2), 1) == []

    def test_while_the_stream_stalls_the_epoch_ends_early(self, channel: Path) -> None:
        fifo, stop = channel.with_name("train_0"), threading.Event()
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR)
        os.write(writer, stream(PAIRS[:5])[:-9])
        batches = training(channel, 17, 1, shuffle=False, stop=stop.is_set).epoch(0)
        assert numbers(next(batches)) == [0]
        stop.set()
        rest = [numbers(batch) for batch in batches]
        assert rest == [[1], [2], [3]][: len(rest)]
        os.close(writer)

    def test_in_a_later_epoch_without_a_batch_it_ends_quietly(
        self, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(channel, stream(PAIRS))
        stop = threading.Event()
        loader = training(channel, 17, stop=stop.is_set)
        assert len(row(loader, 1)) == 16
        stop.set()
        assert list(loader.epoch(1)) == []
        assert not caplog.messages

    def test_a_validation_that_is_stopped_ends_quietly(self, channel: Path) -> None:
        stop = threading.Event()
        stop.set()
        loader = validation(channel, 4, stop.is_set)
        assert list(loader.epoch(0)) == []
        assert loader.iterations() is None


class TestValidation:
    @pytest.mark.parametrize("batch_size", [1, 4, 17, 20])
    def test_batches_are_those_of_files_and_counted(self, channel: Path, batch_size: int) -> None:
        pairs = [pair(number, 5 + number, 40 - number) for number in range(17)]
        path = channel.with_name("validation")
        with Platform(pairs, channel.parent, "validation"):
            found, files = validation(path, batch_size), ValidationLoader(pairs, SAMPLER, batch_size)
            assert found.iterations() is None
            for epoch in range(3):
                require_equal(found.epoch(epoch), files.epoch(epoch))
                assert found.iterations() == files.iterations()

    def test_a_pass_that_is_left_early_is_not_counted(self, channel: Path) -> None:
        put(channel, stream(PAIRS), stream(PAIRS[:3]))
        loader = validation(channel, 1)
        with closing(loader.epoch(0)) as batches:
            next(batches)
        assert loader.iterations() is None
        assert len(list(loader.epoch(1))) == loader.iterations() == 3

    def test_an_error_names_the_record(self, channel: Path) -> None:
        put(channel, stream([*PAIRS[:2], Pair(PAIRS[2].mask, pair(2, 9, 10).mask)]))
        with pytest.raises(DataError, match=r"^record 5 of train_0 has 10 x 9 pixels, record 4 of train_0 10 x 8\."):
            list(validation(channel, 4).epoch(0))


@pytest.mark.parametrize(("count", "batch_size"), [(17, 5), (17, 4), (3, 4)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_parts_of_batches_are_those_of_whole_batches(
    tmp_path: Path, count: int, batch_size: int, shuffle: bool
) -> None:
    """Of three hosts that get the same stream, of which one may have no part. Nothing else is decoded."""
    size = min(count, batch_size)
    put(tmp_path / "train", *[stream(PAIRS[:count])] * 3)
    whole = training(tmp_path / "train", count, batch_size, shuffle=shuffle)
    parts = [range(2), range(2, 2), range(2, size)]
    loaders = [training(tmp_path / "train", count, batch_size, shuffle=shuffle, part=part) for part in parts]
    for epoch in range(3):
        expected = list(whole.epoch(epoch))
        found = [list(loader.epoch(epoch)) for loader in loaders]
        assert [len(one) for one in found] == [len(expected)] * 3
        assert {loader.iterations(epoch) for loader in loaders} == {whole.iterations(epoch)}
        for batch, *made in zip(expected, *found, strict=True):
            assert [len(one) for one in made] == [len(part) for part in parts]
            np.testing.assert_array_equal(np.concatenate([one.images for one in made]), batch.images)
            np.testing.assert_array_equal(np.concatenate([one.labels for one in made]), batch.labels)
            assert sum((one.names for one in made), ()) == batch.names


def test_a_host_with_a_stream_of_its_own_takes_only_its_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Seven of seventeen pairs, two of each batch of five: one is left for the next epoch, without a warning."""
    put(tmp_path / "train", *[stream(PAIRS[:7])] * 2)
    loader = training(tmp_path / "train", 17, 5, shuffle=False, part=range(3, 5), sharded=True)
    assert [numbers(batch) for batch in loader.epoch(0)] == [[0, 1], [2, 3], [4, 5]]
    assert [numbers(batch) for batch in loader.epoch(1)] == [[6, 0], [1, 2], [3, 4], [5, 6]]
    assert loader.iterations(0) == 3
    assert caplog.messages == []


def test_a_host_whose_stream_cannot_fill_its_part_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "train", stream(PAIRS[:1]))
    loader = training(tmp_path / "train", 17, 5, part=range(3, 5), sharded=True)
    with pytest.raises(DataError, match=r"train_0 held 1 samples, too few for one batch of 2;.* use fewer hosts"):
        list(loader.epoch(0))


def test_validation_makes_the_batches_of_a_host(tmp_path: Path) -> None:
    put(tmp_path / "validation", *[stream(PAIRS[:9])] * 2)
    whole = validation(tmp_path / "validation", 2)
    part = PipeValidationLoader(tmp_path / "validation", SAMPLER, 2, never, 30, makes=lambda number: number % 3 > 0)
    expected = [batch.names for number, batch in enumerate(whole.epoch(0)) if number % 3]
    assert [batch.names for batch in part.epoch(0)] == expected
    assert part.iterations() == whole.iterations() == 5
