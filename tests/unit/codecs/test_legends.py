from __future__ import annotations

import numpy as np
import pytest

from semseg.codecs.legends import draw_legend
from semseg.codecs.palettes import palette
from semseg.types import UInt8

COLOURS = palette("voc")


def legend(mask: UInt8, titles: list[str]) -> UInt8:
    """A blue-grey image of the mask's size with the legend of the mask."""
    image = np.full((*mask.shape, 3), (100, 110, 120), np.uint8)
    draw_legend(image, mask, titles, COLOURS)
    return image


def shown(image: UInt8, label: int) -> int:
    """The number of pixels in the colour of a label."""
    return int((image == COLOURS[label]).all(axis=2).sum())


def test_it_lists_the_classes_of_the_mask_the_largest_first_and_leaves_the_rest_of_the_image() -> None:
    mask = np.ones((240, 320), np.uint8)
    mask[:100] = 3
    mask[-1:] = 2
    image = legend(mask, ["sky", "road", "car", "tree"])
    squares = [np.argwhere((image == COLOURS[label]).all(axis=2)) for label in (1, 3, 2)]
    assert all(len(square) >= 8 * 8 for square in squares)
    assert sorted(squares, key=lambda square: square[:, 0].min()) == squares
    assert (image[120:] == (100, 110, 120)).all()
    assert (image[:, 160:] == (100, 110, 120)).all()
    assert (image[:60, :160] > 200).all(axis=2).any()  # letters


def test_longer_names_take_more_place_up_to_the_width_of_the_image() -> None:
    mask = np.ones((200, 300), np.uint8)
    widths = []
    for name in ("car", "a longer name", "x" * 256):
        image = legend(mask, ["", name])
        widths.append(int((image != (100, 110, 120)).any(axis=2).any(axis=0).sum()))
    assert widths[0] < widths[1] < widths[2] <= 300


@pytest.mark.parametrize("name", ["Straße", "道路", "🚗", "a\u0301\u0323", "\u202eright to left", "\u05d0\u05d1"])
def test_every_name_can_be_drawn(name: str) -> None:
    assert shown(legend(np.ones((100, 200), np.uint8), ["sky", name]), 1) >= 64


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (12, 400), (9, 9), (40, 39), (64, 64)])
def test_an_image_of_any_size_stays_of_that_size(size: tuple[int, int]) -> None:
    mask = (np.arange(size[0] * size[1]) % 254).astype(np.uint8).reshape(size)
    assert legend(mask, [f"class {label}" for label in range(254)]).shape == (*size, 3)


def test_it_is_drawn_where_the_image_is_large_enough() -> None:
    small, tiny = (legend(np.ones(size, np.uint8), ["sky", "road"]) for size in ((64, 64), (9, 9)))
    assert shown(small, 1) >= 64
    assert (tiny == (100, 110, 120)).all()
