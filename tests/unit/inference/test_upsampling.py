from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from semseg.engines.gluon import runtime
from semseg.inference.upsampling import upsampled_blocks
from semseg.types import Float32


def random_scores(*size: int) -> Float32:
    return np.random.default_rng(1).normal(scale=5, size=size).astype(np.float32)


def upsampled(scores: Float32, height: int, width: int) -> Float32:
    whole = np.empty((len(scores), height, width), np.float32)
    for rows, columns, block in upsampled_blocks(scores, height, width):
        whole[:, rows, columns] = block
    return whole


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize(
    ("size", "height", "width"),
    [
        ((3, 1, 1), 1, 1),
        ((3, 1, 1), 8, 5),
        ((2, 2, 2), 9, 16),
        ((4, 8, 6), 64, 48),
        ((5, 16, 23), 121, 177),
        ((21, 60, 60), 480, 480),
        ((2, 1, 130), 3, 1033),
        ((3, 5, 7), 5, 7),
    ],
)
def test_equals_the_resize_of_mxnet(size: tuple[int, int, int], height: int, width: int) -> None:
    mx = runtime.load()
    scores = random_scores(*size)
    expected = mx.nd.contrib.BilinearResize2D(
        mx.nd.from_numpy(scores[None], zero_copy=False), height=height, width=width
    )[0].asnumpy()

    difference = np.abs(upsampled(scores, height, width) - expected).max()

    assert difference <= 1e-5 * np.abs(expected).max()


def test_blocks_cover_all_pixels_once() -> None:
    covered = np.zeros((100, 2000), int)
    blocks = list(upsampled_blocks(random_scores(40, 13, 250), 100, 2000))
    for rows, columns, _ in blocks:
        covered[rows, columns] += 1
    assert len(blocks) > 4
    assert (covered == 1).all()


@pytest.mark.parametrize(("height", "width"), [(3000, 8), (8, 3000), (300, 300)])
def test_blocks_are_small_whatever_the_shape(height: int, width: int) -> None:
    scores = random_scores(254, -(-height // 8), -(-width // 8))
    tracemalloc.start()
    for _ in upsampled_blocks(scores, height, width):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_the_scores_are_left_as_they_were() -> None:
    scores = random_scores(3, 4, 5)
    before = scores.copy()
    for *_, block in upsampled_blocks(scores, 4, 5):
        block.fill(0)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (50_000, 2), (316, 316)])
def test_images_of_as_many_pixels_have_about_as_many_blocks_whatever_their_shape(size: tuple[int, int]) -> None:
    scores = np.zeros((2, *(-(-side // 8) for side in size)), np.float32)
    sizes = [block[0].size for _, _, block in upsampled_blocks(scores, *size)]
    assert sum(sizes) == size[0] * size[1]
    assert len(sizes) <= 100
