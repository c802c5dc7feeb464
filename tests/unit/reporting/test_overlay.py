from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semseg.codecs.palettes import palette
from semseg.errors import DataError
from semseg.reporting.overlay import overlay, write_overlay


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


def test_writes_a_png_of_the_images_size(tmp_path: Path) -> None:
    image, mask, out = tmp_path / "i.jpg", tmp_path / "m.png", tmp_path / "o.png"
    Image.new("RGB", (7, 5), (9, 9, 9)).save(image)
    Image.new("L", (7, 5), 2).save(mask)
    write_overlay(image, mask, out)
    with Image.open(out) as written:
        assert written.size == (7, 5)
    Image.new("L", (6, 5), 2).save(mask)
    with pytest.raises(DataError, match=r"/m\.png has 6 x 5 pixels, .*/i\.jpg 7 x 5\."):
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
