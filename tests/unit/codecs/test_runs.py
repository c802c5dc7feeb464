from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semseg.codecs.runs import labels_of, run_lengths
from semseg.errors import FormatError
from semseg.types import UInt8

CLASSES = 4


def decoded(counts: list[int], height: int, width: int) -> UInt8:
    """The mask of a region in COCO's uncompressed RLE: down the columns, zeros first."""
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    return flat.reshape(height, width, order="F").astype(np.uint8)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, CLASSES - 1)))
def test_the_runs_of_each_class_are_its_region(labels: UInt8) -> None:
    regions = list(run_lengths(labels, CLASSES))
    assert len(regions) == CLASSES
    for number, counts in enumerate(regions):
        np.testing.assert_array_equal(decoded(counts.tolist(), *labels.shape), labels == number)
        assert (counts[1:] > 0).all()  # as short as possible
    read = labels_of(enumerate(counts.astype(np.int64) for counts in regions), *labels.shape)
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == np.uint8


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        ([[0, 1], [1, 1]], [[0, 1, 3], [1, 3], [4]]),
        ([[1, 1], [0, 2]], [[1, 1, 2], [0, 1, 1, 1, 1], [3, 1]]),
        ([[2]], [[1], [1], [0, 1]]),
    ],
)
def test_runs_go_down_the_columns(labels: list[list[int]], counts: list[list[int]]) -> None:
    assert [each.tolist() for each in run_lengths(np.array(labels, np.uint8), 3)] == counts


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [[0, 5]],
        [[0, 7]],
        [[1, 5]],
        [[0, 3, 3], [2, 4]],
        [[0, 3, 3], [4, 2]],
        [[0, 8, -2]],
        [[0, 8], [8, -2]],
        [[6]],
    ],
)
def test_regions_that_do_not_cover_each_pixel_once_are_an_error(regions: list[list[int]]) -> None:
    with pytest.raises(FormatError, match="cover each of 3 x 2 pixels once"):
        labels_of(((number, np.array(runs, np.int64)) for number, runs in enumerate(regions)), 2, 3)


def test_runs_of_no_pixels_are_skipped() -> None:
    regions = [np.array([0, 2, 0, 1, 3]), np.array([3, 3, 0, 0])]
    assert labels_of(enumerate(regions), 2, 3).tolist() == [[0, 0, 1], [0, 1, 1]]
