from __future__ import annotations

import numpy as np
import pytest

from semseg.engines.gluon import runtime
from semseg.inference.upsampling import upsampled_stripes
from semseg.types import Float32


def random_scores(*size: int) -> Float32:
    return np.random.default_rng(1).normal(scale=5, size=size).astype(np.float32)


def upsampled(scores: Float32, height: int, width: int) -> Float32:
    return np.concatenate([stripe for _, stripe in upsampled_stripes(scores, height, width)], axis=1)


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


def test_stripes_cover_all_rows_once_and_in_order() -> None:
    rows = [rows for rows, _ in upsampled_stripes(random_scores(8, 13, 100), 100, 800)]
    assert len(rows) > 1
    assert np.concatenate([np.arange(100)[part] for part in rows]).tolist() == list(range(100))


def test_the_scores_are_left_as_they_were() -> None:
    scores = random_scores(3, 4, 5)
    before = scores.copy()
    for _, stripe in upsampled_stripes(scores, 4, 5):
        stripe.fill(0)
    np.testing.assert_array_equal(scores, before)
