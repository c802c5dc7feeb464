"""This project's transforms against GluonCV's own `SegmentationDataset`, fed with the same random draws."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semseg.codecs.images import open_image
from semseg.data.augment import train_transform, validation_transform
from semseg.types import IGNORED, UInt8

SIZES = [(64, 48), (48, 64), (50, 50), (97, 31), (31, 97), (200, 20), (7, 5)]
TABLE = np.arange(256, dtype=np.uint8)


@pytest.fixture(scope="module")
def dataset() -> type[Any]:
    """GluonCV's class, its results left as numpy arrays."""
    from semseg.engines.gluon import runtime

    runtime.load()
    from gluoncv.data.segbase import SegmentationDataset

    class Dataset(SegmentationDataset):  # type: ignore[misc]
        def __init__(self, crop_size: int, base_size: int) -> None:
            self.crop_size, self.base_size = crop_size, base_size

        def _img_transform(self, img: Image.Image) -> UInt8:
            return np.array(img)

        _mask_transform = _img_transform

    return Dataset


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(size: tuple[int, int]) -> tuple[bytes, Image.Image]:
    """A PNG of noise over a gradient, and labels 1 to 8: none of the class 0 that GluonCV pads with."""
    rng = np.random.default_rng(size)
    width, height = size
    pixels = rng.integers(0, 128, (height, width, 3)) + np.linspace(0, 127, width)[:, None]
    labels = rng.integers(1, 9, (height, width))
    return encoded(Image.fromarray(pixels.astype(np.uint8))), Image.fromarray(labels.astype(np.uint8))


def scene(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Discs of all sizes, with sharp edges, over noise and a gradient."""
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = rng.normal(0, 6, (height, width, 3)) + np.linspace(60, 180, height)[:, None, None]
    y, x = np.mgrid[:height, :width]
    for radius in width / 8 * rng.random(60) ** 2 + 2:
        centre_x, centre_y = rng.random(2) * size
        pixels[np.hypot(x - centre_x, y - centre_y) < radius] += rng.normal(0, 50, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def blurs(seed: int, size: tuple[int, int], crop_size: int, base_size: int) -> bool:
    """Whether GluonCV blurs under this seed."""
    rng = random.Random(seed)
    rng.random()
    long_side = rng.randint(int(base_size * 0.5), int(base_size * 2.0))
    for side in size:
        rng.randint(0, max(int(1.0 * side * long_side / max(size) + 0.5), crop_size) - crop_size)
    return rng.random() < 0.5


@pytest.mark.req("R3")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop_size", "base_size"), [(24, 64), (64, 40), (40, 40)])
def test_training_transform_equals_gluoncv_but_for_rounding_and_the_padding(
    dataset: type[Any], size: tuple[int, int], crop_size: int, base_size: int
) -> None:
    """The same labels. Pixels differ by at most 2 of 255 levels, by 5 after a blur, by 1 on average."""
    data, mask = noise(size)
    reference = dataset(crop_size, base_size)
    padded = blurred = 0
    for seed in range(20):
        random.seed(seed)
        expected_image, expected_mask = reference._sync_transform(Image.open(io.BytesIO(data)), mask)
        state = random.getstate()
        rng = random.Random(seed)
        found_image, found_mask = train_transform(open_image(data), np.asarray(mask), TABLE, crop_size, base_size, rng)
        assert rng.getstate() == state  # draw for draw
        np.testing.assert_array_equal(found_mask, np.where(expected_mask == 0, IGNORED, expected_mask))
        difference = np.abs(found_image - expected_image.astype(int))
        blur = blurs(seed, size, crop_size, base_size)
        assert difference.max() <= (5 if blur else 2)
        assert difference.mean() <= 1
        padded += int((expected_mask == 0).sum())
        blurred += blur
    assert padded or crop_size == 24
    assert 0 < blurred < 20


@pytest.mark.req("R3")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_size", [8, 31, 64])
def test_validation_transform_equals_gluoncv_but_for_rounding(
    dataset: type[Any], size: tuple[int, int], crop_size: int
) -> None:
    """The same labels. Pixels differ by at most 1 of 255 levels, JPEG files or not."""
    data, mask = noise(size)
    for file in (data, encoded(Image.open(io.BytesIO(data)), "JPEG")):
        expected_image, expected_mask = dataset(crop_size, 0)._val_sync_transform(Image.open(io.BytesIO(file)), mask)
        found_image, found_mask = validation_transform(open_image(file), np.asarray(mask), TABLE, crop_size)
        assert np.abs(found_image - expected_image.astype(int)).max() <= 1
        np.testing.assert_array_equal(found_mask, expected_mask)


@pytest.mark.req("R3")
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(480, 360), (333, 517)])
def test_jpeg_files_decoded_at_a_part_of_their_size_look_the_same(
    dataset: type[Any], size: tuple[int, int], mode: str
) -> None:
    """Scaled down by 1.2 to 17, pixels differ by at most 32 of 255 levels, at edges, and by 1.5 on average.

    On CamVid's images at the same scales it is 22, and 2.7 on average; scaled up to 2048 x 1024 and down again to
    260 to 1040 in width, it is 16 and 0.6.
    """
    data = encoded(scene(size).convert(mode), "JPEG", quality=90)
    mask = Image.fromarray(np.random.default_rng(0).integers(1, 9, size[::-1]).astype(np.uint8))
    means = []
    for seed in range(60):
        crop_size, base_size = (24, 60) if seed % 2 else (80, 200)
        random.seed(seed)
        expected_image, expected_mask = dataset(crop_size, base_size)._sync_transform(
            Image.open(io.BytesIO(data)).convert("RGB"), mask
        )
        rng = random.Random(seed)
        found_image, found_mask = train_transform(open_image(data), np.asarray(mask), TABLE, crop_size, base_size, rng)
        np.testing.assert_array_equal(found_mask, np.where(expected_mask == 0, IGNORED, expected_mask))
        difference = found_image - expected_image.astype(int)
        assert np.abs(difference).max() <= 32
        assert abs(difference.mean()) <= 0.5  # neither brighter nor darker
        means.append(np.abs(difference).mean())
    assert max(means) <= 1.5


@dataclass(frozen=True)
class Measured:
    """How crops were made, measured from their pixels: float64 (N,) each."""

    flipped: NDArray[np.float64]
    scale: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    detail: NDArray[np.float64]


SIDE, CROP, BASE = 256, 48, 96
Transform = Callable[[bytes, Image.Image, int], UInt8]


def measured(transform: Transform, seeds: range) -> Measured:
    """Measure crops of an image that is redder to the right, greener to the bottom, and textured in blue."""
    ramp = np.linspace(16, 239, SIDE)
    texture = np.random.default_rng(0).integers(0, 2, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    pixels = np.stack([np.tile(ramp, (SIDE, 1)), np.tile(ramp[:, None], SIDE), 64 + 128 * texture], axis=-1)
    data = encoded(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=95, subsampling=0)
    mask = Image.new("L", (SIDE, SIDE))
    rows = []
    for seed in seeds:
        crop = transform(data, mask, seed).astype(float)
        slope_x, red = np.polyfit(np.arange(CROP), crop[..., 0].mean(0), 1)
        slope_y, green = np.polyfit(np.arange(CROP), crop[..., 1].mean(1), 1)
        detail = np.abs(np.diff(crop[..., 2], axis=0)).mean() + np.abs(np.diff(crop[..., 2], axis=1)).mean()
        rows.append((slope_x < 0, 223 / slope_y, red / slope_y, green / slope_y, detail))
    return Measured(*np.array(rows, float).T)


def this_project(data: bytes, mask: Image.Image, seed: int) -> UInt8:
    return train_transform(open_image(data), np.asarray(mask), TABLE, CROP, BASE, random.Random(seed))[0]


@pytest.fixture(scope="module")
def gluoncv(dataset: type[Any]) -> Transform:
    def transform(data: bytes, mask: Image.Image, seed: int) -> UInt8:
        random.seed(seed)
        image: UInt8 = dataset(CROP, BASE)._sync_transform(Image.open(io.BytesIO(data)), mask)[0]
        return image

    return transform


@pytest.mark.req("R3")
def test_the_same_draws_make_the_same_flip_scale_position_and_blur(gluoncv: Transform) -> None:
    """Measured from the pixels, of a JPEG file of which a half or a quarter is decoded for some scales."""
    found, expected = measured(this_project, range(150)), measured(gluoncv, range(150))
    np.testing.assert_array_equal(found.flipped, expected.flipped)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=0.01)
    for found_place, expected_place in ((found.x, expected.x), (found.y, expected.y)):  # in pixels of the scaled image
        np.testing.assert_allclose(found_place, expected_place, atol=1)
        assert abs((found_place - expected_place).mean()) < 0.05
    np.testing.assert_allclose(found.detail, expected.detail, rtol=0.25)
    assert np.corrcoef(found.detail, expected.detail)[0, 1] > 0.99


@pytest.mark.req("R3")
def test_other_draws_make_flips_scales_positions_and_blurs_of_the_same_distribution(gluoncv: Transform) -> None:
    count = 200
    found, expected = measured(this_project, range(1000, 1000 + count)), measured(gluoncv, range(count))
    limit = 1.95 * np.sqrt(2 / count)  # of Kolmogorov and Smirnov's distance: exceeded once in a thousand times
    for name in ("flipped", "scale", "x", "y", "detail"):
        assert distance(getattr(found, name), getattr(expected, name)) < limit, name
    assert distance(found.scale, 1.2 * expected.scale) > limit  # the test would notice a wrong scale


def distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The largest difference between the cumulative distributions of two samples of equal size."""
    values = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(sample), values, "right") / len(sample) for sample in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
