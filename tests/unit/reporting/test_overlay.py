from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.errors import DataError
from semseg.reporting.overlay import class_colours, overlay, write_overlay


def test_the_colours_are_those_of_pascal_voc() -> None:
    colours = class_colours()
    assert colours[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(colours, axis=0)) == 256


def test_class_0_shows_the_picture_and_others_their_colour() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    assert overlay(image, np.array([[0, 1]], np.uint8)).tolist() == [[[100, 100, 100], [114, 50, 50]]]


def test_writes_a_png_of_the_pictures_size(tmp_path: Path) -> None:
    image, mask, out = tmp_path / "i.jpg", tmp_path / "m.png", tmp_path / "o.png"
    Image.new("RGB", (7, 5), (9, 9, 9)).save(image)
    Image.new("L", (7, 5), 2).save(mask)
    write_overlay(image, mask, out)
    with Image.open(out) as written:
        assert written.size == (7, 5)
    Image.new("L", (6, 5), 2).save(mask)
    with pytest.raises(DataError, match="7 x 5"):
        write_overlay(image, mask, out)
