from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.codecs.conversion import image_to_png, mask_to_png
from semseg.codecs.images import decode_image
from semseg.codecs.masks import decode_mask
from semseg.errors import ImageError, TooLargeError


def saved(path: Path, mode: str = "RGB", **options: Any) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(path, **options)
    return image


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tif", "RGB"), ("a.tif", "CMYK"), ("a.tif", "1"), ("a.bmp", "P"), ("a.webp", "RGBA")]
)
def test_an_image_keeps_its_pixels(name: str, mode: str, tmp_path: Path) -> None:
    saved(tmp_path / name, mode, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    with Image.open(tmp_path / name) as image:
        assert decode_image(image_to_png(tmp_path / name)).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(("name", "mode"), [("a.tif", "L"), ("a.tif", "P"), ("a.bmp", "L"), ("a.bmp", "P")])
def test_a_mask_keeps_its_values(name: str, mode: str, tmp_path: Path) -> None:
    saved(tmp_path / name, mode)
    with Image.open(tmp_path / name) as image:
        assert decode_mask(mask_to_png(tmp_path / name)).tobytes() == image.tobytes()


def test_what_would_lose_values_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(tmp_path / "deep.tif")
    with pytest.raises(ImageError, match="mode I, not 8 bits a sample"):
        image_to_png(tmp_path / "deep.tif")
    saved(tmp_path / "a.webp")
    with pytest.raises(ImageError):
        mask_to_png(tmp_path / "a.webp")
    page = Image.new("L", (4, 4))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match="The file has 2 images"):
        image_to_png(tmp_path / "pages.tif")


def test_a_large_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    saved(tmp_path / "a.bmp")
    with pytest.raises(TooLargeError, match="8 x 6 pixels, more than the 47 allowed"):
        image_to_png(tmp_path / "a.bmp", max_pixels=47)
    head = bytearray((tmp_path / "a.bmp").read_bytes())
    head[18:26] = (60_000).to_bytes(4, "little") * 2
    (tmp_path / "huge.bmp").write_bytes(head)
    with pytest.raises(ImageError):
        image_to_png(tmp_path / "huge.bmp")
