from __future__ import annotations

import numpy as np
import pytest

from semseg.codecs.palettes import MODEL, NAMES, chosen_palette, color_names, model_palette, palette
from semseg.types import Classes


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


def test_a_class_has_its_own_colour_and_else_that_of_voc() -> None:
    colours = model_palette(Classes(("sky", None, "car"), (0x2CA02C, None, None)))
    assert colours[:3].tolist() == [[44, 160, 44], [128, 0, 0], [0, 128, 0]]
    np.testing.assert_array_equal(colours[3:], palette("voc")[3:])
    np.testing.assert_array_equal(model_palette(Classes.unknown(5)), palette("voc"))


@pytest.mark.parametrize("count", [2, 21, 254])
def test_no_two_classes_have_one_colour_whichever_of_vocs_are_given_away(count: int) -> None:
    voc = [int.from_bytes(bytes(color)) for color in palette("voc").tolist()]
    for given in (1, count // 2, count - 1, count):
        colors = [*voc[1 : count + 1][-given:], *[None] * (count - given)]  # each is VOC's of another id
        colours = model_palette(Classes((None,) * count, tuple(colors)))
        assert len(np.unique(colours[:count], axis=0)) == count
        assert [int.from_bytes(bytes(color)) for color in colours[:given].tolist()] == colors[:given]


def test_a_palette_is_chosen_by_its_name_or_the_model_s() -> None:
    classes = Classes(("sky", "road"), (0x2CA02C, None))
    np.testing.assert_array_equal(chosen_palette("ade20k", classes), palette("ade20k"))
    np.testing.assert_array_equal(chosen_palette(MODEL, classes), model_palette(classes))
    assert color_names(classes) == ["#2ca02c", "#800000"]
