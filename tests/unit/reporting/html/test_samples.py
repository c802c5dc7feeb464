from __future__ import annotations

import numpy as np
import pytest

from semseg.reporting.html.embedded import photo
from semseg.reporting.html.samples import MAX_PIXELS, SampleChooser, sample
from semseg.types import IGNORED, Batch, UInt8


def batch_of(names: list[str], wrong: list[int], side: int = 10) -> tuple[Batch, UInt8]:
    """Images of class 0, of each of which this number of pixels is predicted as class 1."""
    labels = np.zeros((len(names), side, side), np.uint8)
    predicted = labels.copy()
    for flat, count in zip(predicted.reshape(len(names), -1), wrong, strict=True):
        flat[:count] = 1
    return Batch(np.zeros((*labels.shape, 3), np.uint8), labels, tuple(names)), predicted


NAMES = [f"validation/{number:04}.jpg" for number in range(40)]
WRONG = [(7 * number) % 40 for number in range(40)]


def chosen(order: list[int], size: int) -> SampleChooser:
    chooser = SampleChooser()
    for start in range(0, len(order), size):
        part = order[start : start + size]
        chooser.add(*batch_of([NAMES[index] for index in part], [WRONG[index] for index in part]))
    return chooser


def test_the_same_images_are_chosen_whatever_their_order_and_their_batches() -> None:
    one, other = chosen(list(range(40)), 16), chosen(list(range(39, -1, -1)), 3)
    names = [found.name for found in one.same]
    assert names == [found.name for found in other.same]
    assert len(set(names)) == 4
    assert names == sorted(names)


def test_images_do_not_depend_on_what_is_predicted() -> None:
    chooser = SampleChooser()
    chooser.add(*batch_of(NAMES, [0] * 40))
    assert [found.name for found in chooser.same] == [found.name for found in chosen(list(range(40)), 16).same]
    assert chooser.worst == ()


def test_the_worst_are_those_with_most_errors() -> None:
    worst = chosen(list(range(40)), 16).worst
    assert [found.wrong for found in worst] == [0.39, 0.38, 0.37, 0.36]
    assert [WRONG[NAMES.index(found.name)] for found in worst] == [39, 38, 37, 36]


def test_ignored_pixels_are_not_wrong() -> None:
    batch, predicted = batch_of(["a", "b"], [50, 50])
    batch.labels[0, :5] = IGNORED
    batch.labels[1] = IGNORED
    chooser = SampleChooser()
    chooser.add(batch, predicted)
    assert [found.wrong for found in chooser.same] == [0, 0]
    assert chooser.worst == ()


def test_a_batch_without_names_is_numbered() -> None:
    batch, predicted = batch_of(["", ""], [1, 2])
    chooser = SampleChooser()
    chooser.add(Batch(batch.images, batch.labels), predicted)
    assert {found.name for found in chooser.same} == {"image 1", "image 2"}


def test_what_is_kept_does_not_change_with_the_batch() -> None:
    """A loader may use the arrays again."""
    batch, predicted = batch_of(["a"], [10])
    chooser = SampleChooser()
    chooser.add(batch, predicted)
    predicted[:] = batch.images[:] = 7
    (found,) = chooser.same
    assert found.predicted.sum() == 10
    assert not found.image.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1), (480, 360), (3000, 2000), (17, 9)])
def test_copies_are_small_and_keep_the_proportions(size: tuple[int, int]) -> None:
    width, height = size
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 3
    found = sample("a", np.zeros((height, width, 3), np.uint8), labels, labels)
    h, w = found.labels.shape
    assert 1 <= h * w <= max(MAX_PIXELS, width, height)
    assert found.image.shape == (h, w, 3)
    assert found.predicted.shape == (h, w)
    assert abs(h / height - w / width) <= 1 / min(size) + 1e-6
    assert set(np.unique(found.labels)) <= {0, 3}


def test_memory_does_not_grow_with_the_images() -> None:
    chooser = SampleChooser()
    for number in range(50):
        names = [f"{number} {index}" for index in range(2)]
        chooser.add(*batch_of(names, [number, 2 * number], side=400))
    kept = [*chooser.same, *chooser.worst]
    assert len(kept) == 8
    assert all(array.size <= 3 * MAX_PIXELS for found in kept for array in (found.image, found.labels, found.predicted))


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 120_000), (1, 1)])
def test_the_narrowest_images_have_copies_that_can_be_shown(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    small = sample("narrow", np.zeros((*size, 3), np.uint8), labels, labels)
    assert 1 <= min(small.labels.shape) <= max(small.labels.shape) <= 4096
    assert small.image.shape == (*small.labels.shape, 3)
    assert photo(small.image).startswith("data:image/jpeg;base64,")
