from __future__ import annotations

import numpy as np
import pytest

from semseg.codecs.palettes import NAMES, palette


def test_voc_is_the_colour_map_of_pascal_voc() -> None:
    colours = palette("voc")
    assert colours[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(colours, axis=0)) == 256


def test_the_sky_of_cityscapes_is_that_of_its_own_scripts() -> None:
    assert palette("cityscapes")[10].tolist() == [70, 130, 180]


@pytest.mark.parametrize("name", NAMES)
def test_every_label_has_a_colour_and_the_array_is_the_caller_s(name: str) -> None:
    colours = palette(name)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    colours[:] = 0
    assert palette(name).any()
