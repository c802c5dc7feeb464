from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semseg.data.files import File, LocalFile
from semseg.data.label_map import parse_label_map
from semseg.data.loader import TrainingLoader, ValidationLoader
from semseg.data.pairs import Pair
from semseg.data.samples import Sampler
from semseg.data.shares import Share
from semseg.errors import DataError
from semseg.types import IGNORED, Batch, UInt8

PairWriter = Callable[..., Pair]
LABEL_MAP = parse_label_map({"scale": 1}, 250, "map.json")


@pytest.fixture
def pairs(write_pair: PairWriter) -> list[Pair]:
    """Ten pairs; the mask of number i is all i."""
    return [write_pair(str(number), np.full((8, 10), number, np.uint8)) for number in range(10)]


def training(pairs: list[Pair], batch_size: int = 4, seed: int = 0, workers: int = 2) -> TrainingLoader:
    return TrainingLoader(pairs, Sampler(LABEL_MAP, 8, 16, seed, workers), batch_size)


def path_of(file: File) -> Path:
    assert isinstance(file, LocalFile)
    return file.path


def cut_short(file: File, size: int = 60) -> None:
    path_of(file).write_bytes(file.read()[:size])


def numbers(batch: Batch) -> list[int]:
    """Which images a batch consists of."""
    return [int(labels[0, 0]) for labels in batch.labels]


def row(loader: TrainingLoader, epochs: int) -> list[int]:
    return list(chain.from_iterable(numbers(batch) for epoch in range(epochs) for batch in loader.epoch(epoch)))


def equal(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def require_equal(found: Iterable[Batch], expected: list[Batch]) -> None:
    assert [equal(one, other) for one, other in zip(found, expected, strict=True)] == [True] * len(expected)


def no_threads_left() -> bool:
    return not any(thread.name.startswith("semseg-data") for thread in threading.enumerate())


class TestTraining:
    def test_batches_have_the_promised_form(self, pairs: list[Pair]) -> None:
        batches = list(training(pairs).epoch(0))
        assert len(batches) == 2
        for batch in batches:
            assert batch.images.shape == (4, 8, 8, 3)
            assert batch.labels.shape == (4, 8, 8)
            assert batch.images.dtype == batch.labels.dtype == np.uint8

    def test_batches_know_the_files_of_their_images(self, pairs: list[Pair]) -> None:
        batches = [*training(pairs).epoch(0), *ValidationLoader(pairs, Sampler(LABEL_MAP, 8, 16, 0, 0), 3).epoch(0)]
        assert len(batches) == 2 + 4
        for batch in batches:
            assert batch.names == tuple(f"train/{number}.png" for number in numbers(batch))

    def test_remainders_roll_over_into_the_next_epoch(self, pairs: list[Pair]) -> None:
        loader = training(pairs)
        assert [sum(1 for _ in loader.epoch(epoch)) for epoch in range(4)] == [2, 3, 2, 3]
        assert [loader.iterations(epoch) for epoch in range(4)] == [2, 3, 2, 3]
        order = row(loader, 2)
        assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
        assert order[:10] != order[10:]

    @given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 8))
    def test_iterations_are_those_of_gluons_rollover(self, count: int, batch_size: int, epochs: int) -> None:
        loader = training([Pair(LocalFile(Path()), LocalFile(Path()))] * count, batch_size)
        size, carried = min(batch_size, count), 0
        for epoch in range(epochs):
            batches, carried = divmod(carried + count, size)
            assert loader.iterations(epoch) == batches

    def test_any_epoch_can_be_started_directly(self, pairs: list[Pair]) -> None:
        straight = training(pairs)
        for epoch in range(3):
            expected = list(straight.epoch(epoch))
            assert len(expected) >= 2
            require_equal(training(pairs).epoch(epoch), expected)

    def test_an_epoch_can_be_begun_behind_its_first_batches_without_reading_them(self, pairs: list[Pair]) -> None:
        """Epoch 1 begins with two images of epoch 0, whatever is skipped."""
        expected = list(training(pairs).epoch(1))
        assert len(expected) == 3
        for done in range(4):
            require_equal(training(pairs).epoch(1, done), expected[done:])
        for number in {*numbers(expected[0]), *numbers(expected[1])} - {*numbers(expected[2])}:
            path_of(pairs[number].image).unlink()
        assert equal(next(training(pairs).epoch(1, 2)), expected[2])

    def test_a_small_set_makes_one_batch_of_all(self, pairs: list[Pair]) -> None:
        loader = training(pairs, batch_size=16)
        for epoch in range(3):
            (batch,) = loader.epoch(epoch)
            assert sorted(numbers(batch)) == list(range(10))
            assert loader.iterations(epoch) == 1

    @pytest.mark.parametrize("workers", [0, 1, 7])
    def test_threads_change_nothing(self, pairs: list[Pair], workers: int) -> None:
        expected = list(training(pairs, workers=2).epoch(1))
        assert len(expected) == 3
        require_equal(training(pairs, workers=workers).epoch(1), expected)

    def test_seed_and_epoch_change_everything(self, pairs: list[Pair]) -> None:
        orders = {tuple(row(training(pairs, seed=seed, batch_size=10), 1)) for seed in range(5)}
        assert len(orders) == 5

    def test_an_image_is_augmented_anew_each_time(self, pairs: list[Pair]) -> None:
        loader = training(pairs[:1], batch_size=1)
        images = [batch.images.tobytes() for epoch in range(8) for batch in loader.epoch(epoch)]
        assert len(set(images)) > 4

    def test_every_image_equally_often(self, pairs: list[Pair]) -> None:
        assert set(Counter(row(training(pairs, batch_size=3), 3)).values()) == {3}

    @pytest.mark.req("R28", "R33")
    def test_the_label_map_is_applied_before_the_padding(self, write_pair: PairWriter) -> None:
        pair = write_pair("a", np.full((8, 10), 255, np.uint8))
        label_map = parse_label_map({"scale": 255}, 2, "map.json")
        (batch,) = TrainingLoader([pair], Sampler(label_map, 64, 16, 0, workers=0), 1).epoch(0)
        assert set(np.unique(batch.labels)) == {1, IGNORED}

    def test_an_error_names_the_file_and_ends_the_threads(self, pairs: list[Pair]) -> None:
        cut_short(pairs[3].image)
        with pytest.raises(DataError, match=r"^train/3\.png: The image cannot be decoded"):
            list(training(pairs, batch_size=10).epoch(0))
        assert no_threads_left()

    def test_without_shuffling_the_order_is_that_of_the_pairs(self, pairs: list[Pair]) -> None:
        loader = TrainingLoader(pairs, Sampler(LABEL_MAP, 8, 16, 0, 2), 4, shuffle=False)
        assert row(loader, 2) == [*range(10), *range(10)]

    def test_files_are_read_ahead_of_the_decoding(self, pairs: list[Pair]) -> None:
        """Sixteen readers wait together where there may be fewer cores."""
        meeting = threading.Barrier(6, timeout=10)

        class Slow(LocalFile):
            def read(self) -> bytes:
                meeting.wait()
                return super().read()

        slow = [Pair(Slow(path_of(pair.image)), pair.mask) for pair in pairs[:6]]
        assert len(list(training(slow, batch_size=6).epoch(0))) == 1

    @pytest.mark.parametrize(("quota", "decoders"), [("max 100000", 20), ("250000 100000", 3), ("1000 100000", 1)])
    def test_no_more_threads_decode_than_the_cgroups_quota_has_cores(
        self, pairs: list[Pair], pools_with_quota: Callable[[str], list[int]], quota: str, decoders: int
    ) -> None:
        """Behind sixteen that read, however many are asked for."""
        pools = pools_with_quota(quota)
        assert len(list(training(pairs, workers=20).epoch(0))) == 2
        assert sorted(pools) == sorted([16, decoders])
        pools.clear()
        assert len(list(ValidationLoader(pairs, Sampler(LABEL_MAP, 8, 16, 0, 20), 4).epoch(0))) == 3
        assert sorted(pools) == sorted([16, decoders])

    def test_few_files_are_held_however_large_a_batch_is(
        self, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where three pairs are as many bytes as may be; at first, before any size is known, a pair a reader."""
        read: list[str] = []
        held: list[int] = []

        class Counted(LocalFile):
            def read(self) -> bytes:
                read.append(self.name)
                return super().read()

        def transform(*_: object) -> tuple[UInt8, UInt8]:
            held.append(len(read) - len(held))
            return np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)

        monkeypatch.setattr("semseg.data.samples.train_transform", transform)
        monkeypatch.setattr("semseg.data.loader.AHEAD_BYTES", 3 * pairs[0].loaded().loaded_bytes())
        many = [Pair(Counted(path_of(pair.image)), pair.mask) for pair in pairs * 40]
        assert len(list(training(many, batch_size=100).epoch(0))) == 4
        assert max(held) <= 16 + 5 + 3

    def test_a_defect_in_a_thread_names_the_file(self, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("semseg.data.samples.train_transform", fail)
        with pytest.raises(MemoryError) as error:
            list(training(pairs[:1]).epoch(0))
        assert error.value.__notes__ == ["while reading train/0.png"]
        assert no_threads_left()

    def test_a_mask_of_another_size_is_an_error(self, write_pair: PairWriter) -> None:
        pair = write_pair("a", np.zeros((8, 9), np.uint8))
        with pytest.raises(DataError, match=r"train_annotation/a\.png has 9 x 8 pixels"):
            list(training([pair]).epoch(0))

    def test_a_consumer_may_stop_early(self, pairs: list[Pair]) -> None:
        batches = training(pairs, batch_size=2).epoch(0)
        next(batches)
        del batches
        assert no_threads_left()

    def test_a_consumer_may_fail(self, pairs: list[Pair]) -> None:
        def consume() -> None:
            for _ in training(pairs, batch_size=2).epoch(0):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()
        assert no_threads_left()


class TestValidation:
    def load(self, pairs: list[Pair], batch_size: int, workers: int = 2) -> ValidationLoader:
        return ValidationLoader(pairs, Sampler(LABEL_MAP, 8, 16, 0, workers), batch_size)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_every_image_once_in_order_the_last_batch_short(self, pairs: list[Pair], workers: int) -> None:
        loader = self.load(pairs, 4, workers)
        for epoch in range(2):
            batches = list(loader.epoch(epoch))
            assert [numbers(batch) for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
            assert batches[0].images.shape == (4, 8, 8, 3)
        assert loader.iterations() == 3

    def test_alone_an_image_stays_whole(self, write_pair: PairWriter) -> None:
        sizes = [(8, 10), (5, 31), (40, 3)]
        pairs = [write_pair(f"{number}", size=size) for number, size in enumerate(sizes)]
        for pair, size, batch in zip(pairs, sizes, self.load(pairs, 1).epoch(0), strict=True):
            assert batch.labels.shape == (1, *size)
            stored: UInt8 = np.asarray(Image.open(path_of(pair.image)))
            np.testing.assert_array_equal(batch.images[0], stored)
            np.testing.assert_array_equal(batch.labels[0], np.asarray(Image.open(path_of(pair.mask))))

    def test_masks_that_were_not_checked_are_checked(self, write_pair: PairWriter) -> None:
        pair = write_pair("a", np.full((8, 10), 3, np.uint8))
        sampler = Sampler(parse_label_map({"scale": 1}, 3, "map.json"), 8, 16, 0, 2, checked=False)
        with pytest.raises(DataError, match=r"^train_annotation/a\.png: pixel values 3 are not classes"):
            list(ValidationLoader([pair], sampler, 1).epoch(0))

    def test_an_error_names_the_file(self, pairs: list[Pair]) -> None:
        cut_short(pairs[0].mask, 0)
        with pytest.raises(DataError, match=r"^train_annotation/0\.png: The image is empty"):
            list(self.load(pairs, 4).epoch(0))
        assert no_threads_left()


@pytest.mark.parametrize(("batch_size", "ranks", "parts"), [(5, 2, [3, 2]), (4, 2, [2, 2]), (2, 3, [1, 1, 0])])
def test_the_shares_of_each_batch_are_one_processes_batches(
    pairs: list[Pair], batch_size: int, ranks: int, parts: list[int]
) -> None:
    """Crops included, over an epoch that begins with what the one before has left over."""
    sampler = Sampler(LABEL_MAP, 8, 16, 0, 2)
    whole = TrainingLoader(pairs, sampler, batch_size)
    shares = [TrainingLoader(pairs, sampler, batch_size, share=Share(rank, ranks)) for rank in range(ranks)]
    for epoch, done in [(0, 0), (1, 1)]:
        found = list(zip(*(share.epoch(epoch, done) for share in shares), strict=True))
        assert [[len(part) for part in parted] for parted in found] == [parts] * (whole.iterations(epoch) - done)
        joined = [
            Batch(*(np.concatenate([getattr(part, name) for part in parted]) for name in ("images", "labels")))
            for parted in found
        ]
        require_equal(joined, list(whole.epoch(epoch, done)))
    assert {share.iterations(1) for share in shares} == {whole.iterations(1)}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_validation_batch_is_in_one_share(pairs: list[Pair], batch_size: int) -> None:
    sampler = Sampler(LABEL_MAP, 8, 16, 0, 2)
    whole = ValidationLoader(pairs, sampler, batch_size)
    shares = [ValidationLoader(pairs, sampler, batch_size, Share(rank, 3)) for rank in range(3)]
    found = [[numbers(batch) for batch in share.epoch(0)] for share in shares]
    expected = [numbers(batch) for batch in whole.epoch(0)]
    assert found == [expected[rank::3] for rank in range(3)]
    assert {share.iterations() for share in shares} == {whole.iterations()}


@given(st.integers(0, 100), st.integers(1, 12))
def test_shares_are_disjoint_slices_of_almost_equal_size(size: int, ranks: int) -> None:
    parts = [Share(rank, ranks).of(size) for rank in range(ranks)]
    assert [position for part in parts for position in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_hosts_with_their_own_pairs_have_epochs_of_the_same_length(pairs: list[Pair]) -> None:
    """Seven pairs and three, of which each batch takes two and one: the fewer ones come again sooner."""
    sampler = Sampler(LABEL_MAP, 8, 16, 0, 2)
    many = TrainingLoader(pairs[:7], sampler, 2, whole=(10, 3))
    few = TrainingLoader(pairs[7:], sampler, 1, whole=(10, 3))
    both = TrainingLoader(pairs, sampler, 3)
    for epoch in range(3):
        assert many.iterations(epoch) == few.iterations(epoch) == both.iterations(epoch)
        assert [len(batch) for batch in many.epoch(epoch)] == [2] * both.iterations(epoch)
    assert sorted(Counter(row(few, 3)).values()) == [3, 3, 4]
    assert max(Counter(row(many, 3)).values()) - min(Counter(row(many, 3)).values()) <= 1
