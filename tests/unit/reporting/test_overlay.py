from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.errors import DataError
from semseg.reporting.overlay import write_overlay


@pytest.mark.parametrize(("image_name", "mask_name"), [("i.jpg", "m.png"), ("i.webp", "m.bmp"), ("i.tif", "m.tif")])
def test_writes_a_png_of_the_images_size(image_name: str, mask_name: str, tmp_path: Path) -> None:
    image, mask, out = tmp_path / image_name, tmp_path / mask_name, tmp_path / "o.png"
    Image.new("RGB", (7, 5), (9, 9, 9)).save(image)
    Image.new("L", (7, 5), 2).save(mask)
    write_overlay(image, mask, out)
    with Image.open(out) as written:
        assert written.size == (7, 5)
    Image.new("L", (6, 5), 2).save(mask)
    with pytest.raises(DataError, match=rf"/{mask_name} has 6 x 5 pixels, .*/{image_name} 7 x 5\."):
        write_overlay(image, mask, out)


def test_a_mask_of_one_bit_has_the_classes_0_and_1(tmp_path: Path) -> None:
    image, out = tmp_path / "i.png", tmp_path / "o.png"
    Image.new("RGB", (2, 1), (100, 100, 100)).save(image)
    for name, mask in (("1.png", Image.new("1", (2, 1), 1)), ("8.png", Image.new("L", (2, 1), 1))):
        mask.save(tmp_path / name)
        write_overlay(image, tmp_path / name, out)
        with Image.open(out) as written:
            assert np.asarray(written)[0].tolist() == [[114, 50, 50]] * 2


@pytest.mark.parametrize("name", ["i.jpg", "m.png"])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path: Path, name: str) -> None:
    image, mask = tmp_path / "i.jpg", tmp_path / "m.png"
    Image.new("RGB", (40, 40), (9, 9, 9)).save(image)
    Image.new("L", (40, 40), 2).save(mask)
    damaged = tmp_path / name
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=f"/{name}: The image cannot be"):
        write_overlay(image, mask, tmp_path / "o.png")
