from __future__ import annotations

import numpy as np
import pytest

from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette


@pytest.mark.parametrize(
    ("name", "share", "blended"),
    [
        ("voc", 0.5, [[100, 100, 100], [114, 50, 50]]),  # class 0 is black
        ("voc", 0.0, [[100, 100, 100], [100, 100, 100]]),
        ("voc", 1.0, [[100, 100, 100], [128, 0, 0]]),
        ("ade20k", 0.25, [[105, 105, 105], [120, 105, 105]]),
    ],
)
def test_classes_show_their_colour_and_the_image_but_black_ones_the_image_alone(
    name: str, share: float, blended: list[list[int]]
) -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    assert overlay(image, np.array([[0, 1]], np.uint8), palette(name), share).tolist() == [blended]


def test_every_row_is_blended_without_overflow() -> None:
    rng = np.random.default_rng(0)
    image = np.where(rng.random((71, 13, 3)) < 0.5, 255, rng.integers(0, 256, (71, 13, 3))).astype(np.uint8)
    mask = rng.integers(0, 256, (71, 13), np.uint8)
    colours = np.full((256, 3), 255, np.uint8)
    exact = 0.3 * image + 0.7 * colours[mask]
    np.testing.assert_allclose(overlay(image, mask, colours, 0.7), exact, atol=2)
