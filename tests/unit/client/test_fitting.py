from __future__ import annotations

import numpy as np
import pytest
from fake_endpoint import probabilities_of
from hypothesis import given
from hypothesis import strategies as st

from semseg.client.answers import Answer
from semseg.client.fitting import joined, shrunk, stretched, tile_pixels, tiles
from semseg.client.sources import load, png_source
from semseg.errors import TooLargeError
from semseg.types import UInt8


def noise(height: int, width: int) -> UInt8:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(32 * 32, 90_000))
def test_tiles_answer_each_pixel_once_within_their_limit(height: int, width: int, most: int) -> None:
    answered = np.zeros((height, width), np.uint8)
    for tile in tiles(height, width, most):
        rows, columns = tile.rows, tile.columns
        assert 0 <= rows.start < rows.stop <= height
        assert 0 <= columns.start < columns.stop <= width
        assert (rows.stop - rows.start) * (columns.stop - columns.start) <= most
        answered[tile.answered] += 1
        for outer, part, inner in zip((rows, columns), tile.answered, tile.inner, strict=True):
            assert (part.start - outer.start, part.stop - outer.start) == (inner.start, inner.stop)
            assert 0 <= inner.start < inner.stop <= outer.stop - outer.start
    assert (answered == 1).all()


def test_what_is_answered_is_away_from_edges_inside_the_image() -> None:
    for tile in tiles(1000, 1500, 400 * 400):
        for outer, part, size in zip((tile.rows, tile.columns), tile.answered, (1000, 1500), strict=True):
            assert part.start == 0 or part.start - outer.start >= 50
            assert part.stop == size or outer.stop - part.stop >= 50


def test_a_single_tile_suffices_for_what_fits() -> None:
    (tile,) = tiles(300, 200, 60_000)
    assert tile.answered == (slice(0, 300), slice(0, 200))
    assert len(tiles(301, 200, 60_000)) == 2


@pytest.mark.parametrize("most", [-5, 0, 1023])
def test_tiles_that_would_be_tiny_are_an_error(most: int) -> None:
    with pytest.raises(TooLargeError, match="Ask for a smaller response, such as image/png"):
        tiles(1000, 1000, most)


def test_the_smallest_limit_counts() -> None:
    assert tile_pixels(None, None, 84) is None
    assert tile_pixels(None, 10**6, 0) is None
    assert tile_pixels(404_096, None, 84) == 100_000
    assert tile_pixels(404_096, 844_096, 84) == 10_000


@pytest.mark.parametrize("size", [(400, 400), (160_000, 1), (1, 160_000), (3, 50_000)])
def test_a_tile_of_the_most_pixels_fits(size: tuple[int, int]) -> None:
    limit = 4 * size[0] * size[1] + 4096
    assert tile_pixels(limit, None, 0) == size[0] * size[1]
    assert len(png_source(noise(*size)).data) <= limit


def test_tiles_give_the_answer_of_the_whole_image() -> None:
    image = noise(90, 130)
    whole = probabilities_of(image)

    colours = np.zeros((256, 3), np.uint8)

    def answer(pixels: UInt8) -> Answer:
        found = probabilities_of(pixels)
        return Answer((1, 1), found.argmax(axis=0).astype(np.uint8), found, found.max(axis=0), colours=colours)

    found = joined(load(image), tiles(90, 130, 40 * 40), answer)
    assert found.size == (90, 130)
    assert found.mask is not None
    assert found.probabilities is not None
    assert found.confidence is not None
    np.testing.assert_array_equal(found.probabilities, whole)
    np.testing.assert_array_equal(found.mask, whole.argmax(axis=0))
    np.testing.assert_array_equal(found.confidence, whole.max(axis=0))
    assert found.colours is colours


def test_an_image_is_sent_in_its_own_size_if_a_lower_quality_suffices() -> None:
    source = load(noise(100, 120))
    for limit in (35_000, 25_000, 18_000):
        smaller = shrunk(source, limit)
        assert len(smaller.data) <= limit < len(source.data)
        assert smaller.content_type == "image/jpeg"
        assert smaller.size == (100, 120)
    assert np.abs(shrunk(source, 35_000).pixels.astype(int) - source.pixels).mean() < 8


@pytest.mark.parametrize("limit", [9_000, 3_000, 1_000])
def test_an_image_is_scaled_down_no_more_than_necessary(limit: int) -> None:
    smaller = shrunk(load(noise(100, 120)), limit)
    assert limit / 3 < len(smaller.data) <= limit
    assert smaller.size[1] / smaller.size[0] == pytest.approx(1.2, rel=0.1)


def test_sides_that_jpeg_does_not_have_are_scaled_down() -> None:
    source = load(np.zeros((2, 70_000, 3), np.uint8))
    assert shrunk(source, 100_000).size == (2, 65_500)


def test_a_limit_below_any_image_is_an_error() -> None:
    with pytest.raises(TooLargeError, match="does not fit into 100 bytes"):
        shrunk(load(noise(100, 120)), 100)


def test_answers_are_stretched_to_the_image_s_size() -> None:
    small = probabilities_of(noise(10, 12))
    answer = Answer((10, 12), small.argmax(axis=0).astype(np.uint8), small, small.max(axis=0))
    found = stretched(answer, (30, 36))
    assert found.size == (30, 36)
    assert found.mask is not None
    assert found.probabilities is not None
    assert found.confidence is not None
    np.testing.assert_array_equal(found.mask, np.kron(small.argmax(axis=0), np.ones((3, 3), int)))
    assert found.probabilities.shape == (3, 30, 36)
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(found.probabilities[:, 1::3, 1::3], small, rtol=1e-5)
    np.testing.assert_allclose(found.confidence[1::3, 1::3], small.max(axis=0), rtol=1e-5)
    assert {array.dtype for array in (found.probabilities, found.confidence)} == {np.dtype(np.float32)}
