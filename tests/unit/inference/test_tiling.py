from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from fake_backend import OnHost
from hypothesis import given
from hypothesis import strategies as st

from semseg.inference.predictor import Predictor
from semseg.inference.tiling import OVERLAP, SMALLEST_BUDGET, Axis, blended, computed_pixels, plan
from semseg.types import Float32, UInt8

SIZES = st.integers(1, 3000)
BUDGETS = st.integers(SMALLEST_BUDGET, 2_000_000)
STRIDES = st.sampled_from([4, 8, 16])


class Neighbourhood(OnHost):
    """A network that sees `radius` cells around each cell, and zeros beyond the image's edge, as convolutions do."""

    def __init__(self, radius: int, stride: int = 8) -> None:
        self._radius = radius
        self.stride = stride
        self.shapes: list[tuple[int, ...]] = []

    def logits(self, images: Float32) -> Float32:
        self.shapes.append(images.shape[2:])
        cells = images[0, :, :: self.stride, :: self.stride].astype(np.float64)
        reach = self._radius
        for axis, size in ((1, cells.shape[1]), (2, cells.shape[2])):
            padded = np.pad(cells, [(reach, reach) if axis == side else (0, 0) for side in range(3)])
            shifted = [padded.take(range(shift, shift + size), axis) for shift in range(2 * reach + 1)]
            weights = np.arange(1, 2 * reach + 2)
            cells = np.tensordot(weights / weights.sum(), np.stack(shifted), axes=1)
        return np.asarray(cells[None], dtype=np.float32)


def random_image(height: int, width: int) -> UInt8:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(SIZES, SIZES, BUDGETS, STRIDES)
def test_tiles_cover_the_image_overlap_and_keep_to_the_budget(
    height: int, width: int, budget: int, stride: int
) -> None:
    axes = plan(height, width, budget, stride)
    assert [axis.size for axis in axes] == [-(-height // stride), -(-width // stride)]
    assert stride**2 * axes[0].length * axes[1].length <= budget
    for axis in axes:
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.length == axis.size
        assert all(
            after - before <= axis.length - OVERLAP // stride for before, after in itertools.pairwise(axis.starts)
        )


@given(SIZES, SIZES, BUDGETS, STRIDES)
def test_the_weights_of_all_tiles_over_a_cell_add_up_to_1(height: int, width: int, budget: int, stride: int) -> None:
    unused = OVERLAP // stride // 4
    for axis in plan(height, width, budget, stride):
        total = np.zeros(axis.size)
        for start, weights in zip(axis.starts, axis.weights, strict=True):
            assert weights.dtype == np.float32
            assert (weights >= 0).all()
            assert not (weights[:unused].any() and start)
            assert not (weights[-unused:].any() and start + axis.length < axis.size)
            total[start : start + axis.length] += weights
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_one_tile_fades_into_the_next() -> None:
    left, right = Axis(size=64, length=40, overlap=16, tiles=2).weights
    steps = np.diff(left[24:])
    assert (steps <= 0).all()
    assert steps.min() >= -1 / 8
    np.testing.assert_allclose(left[24:] + right[:16], 1)


@pytest.mark.parametrize(("size", "budget"), [((1024, 1024), 1024**2), ((1, 1), SMALLEST_BUDGET), ((9, 8188), 131_072)])
def test_a_image_within_the_budget_is_one_tile(size: tuple[int, int], budget: int) -> None:
    assert [axis.tiles for axis in plan(*size, budget, 8)] == [1, 1]


def test_a_thin_image_counts_in_whole_cells() -> None:
    """A network computes no less than a row of cells for a row of pixels."""
    assert plan(1, SMALLEST_BUDGET, SMALLEST_BUDGET, 8)[1].tiles == 8 + 1


@pytest.mark.parametrize(("height", "width", "counted"), [(1, 1000, 8000), (1000, 1, 8000), (8, 16, 128), (9, 17, 384)])
def test_both_sides_count_in_whole_cells(height: int, width: int, counted: int) -> None:
    assert computed_pixels(height, width, 8) == counted


@given(st.integers(1, 100_000), st.integers(1, 100_000), BUDGETS)
def test_tiles_cost_at_most_four_times_what_the_image_counts(height: int, width: int, budget: int) -> None:
    down, across = plan(height, width, budget, 8)
    assert 64 * down.tiles * down.length * across.tiles * across.length <= 4 * computed_pixels(height, width, 8)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (9, 30_000), (30_000, 9), (7, 7), (257, 257), (300, 1001)])
def test_the_network_is_given_little_more_than_the_image_counts(size: tuple[int, int]) -> None:
    network = Neighbourhood(0)
    Predictor(network, 3, max_tile_pixels=SMALLEST_BUDGET).predict(random_image(*size))
    given = sum(computed_pixels(height, width, 8) for height, width in network.shapes)
    assert given <= 4 * computed_pixels(*size, 8)
    assert len(network.shapes) <= 1 + 4 * computed_pixels(*size, 8) / SMALLEST_BUDGET


def test_the_plan_of_a_very_high_image_is_found_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 125,000 rows of cells."""
    made = []

    def axis(*sizes: int) -> Axis:
        made.append(sizes)
        return Axis(*sizes)

    monkeypatch.setattr("semseg.inference.tiling.Axis", axis)
    down, across = plan(10**6, 1, SMALLEST_BUDGET, 8)
    assert (down.tiles, across.tiles) == (124, 1)
    assert len(made) <= 2 * down.tiles


def test_no_more_is_computed_than_needs_be() -> None:
    """Tiles as large as the budget allows would compute 2 x 1024 x 1024 pixels here, twice the image."""
    down, across = plan(1100, 1000, 1024 * 1024, 8)
    assert (down.tiles, across.tiles) in {(2, 1), (1, 2)}
    assert 64 * down.tiles * down.length * across.tiles * across.length < 1.2 * 1100 * 1000


@pytest.mark.parametrize("size", [(700, 500), (701, 507), (300, 1200), (1, 17_000), (8, 8193), (264, 265)])
@pytest.mark.parametrize("stride", [4, 8])
def test_a_network_that_sees_no_further_than_the_overlap_says_the_same_of_tiles(
    size: tuple[int, int], stride: int
) -> None:
    image, reach = random_image(*size), OVERLAP // stride // 4
    whole, tiles = Neighbourhood(reach, stride), Neighbourhood(reach, stride)
    expected = Predictor(whole, 3, max_tile_pixels=10**7).predict(image)
    found = Predictor(tiles, 3, max_tile_pixels=SMALLEST_BUDGET).predict(image)
    assert (len(whole.shapes), len(tiles.shapes) > 1) == (1, True)
    np.testing.assert_array_equal(found.labels(), expected.labels())
    np.testing.assert_allclose(found.probabilities(), expected.probabilities(), atol=1e-4)


def test_a_network_that_sees_further_shows_why_they_overlap() -> None:
    image, far = random_image(700, 500), OVERLAP // 8 // 4 + 1
    whole = Predictor(Neighbourhood(far), 3, max_tile_pixels=10**7).predict(image)
    tiles = Predictor(Neighbourhood(far), 3, max_tile_pixels=SMALLEST_BUDGET).predict(image)
    assert (whole.labels() != tiles.labels()).any()


@pytest.mark.parametrize("size", [(700, 500), (701, 507), (50, 4003)])
def test_all_tiles_of_a_image_have_one_shape(size: tuple[int, int]) -> None:
    network = Neighbourhood(0)
    Predictor(network, 3, max_tile_pixels=SMALLEST_BUDGET).predict(random_image(*size))
    assert len(network.shapes) > 1
    assert len(set(network.shapes)) == 1


def test_memory_is_that_of_a_tile_and_of_the_logits() -> None:
    """The whole image as the network's float32 input would be 96 MB."""
    image = np.zeros((2000, 4000, 3), np.uint8)
    predictor = Predictor(Neighbourhood(0), 3, max_tile_pixels=SMALLEST_BUDGET)
    tracemalloc.start()
    predictor.predict(image).labels()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


def test_the_tiles_are_views_of_the_image() -> None:
    image = random_image(300, 300)
    bases = []

    def logits(tile: UInt8) -> Float32:
        bases.append(tile.base is image)
        return np.zeros((2, -(-tile.shape[0] // 8), -(-tile.shape[1] // 8)), np.float32)

    assert blended(image, plan(300, 300, SMALLEST_BUDGET, 8), 2, 8, logits).shape == (2, 38, 38)
    assert len(bases) > 1
    assert all(bases)
