"""Our transforms against GluonCV's own `SegmentationDataset`, fed with the same random draws."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.data.augment import train_transform, validation_transform
from semseg.types import IGNORED, UInt8

SIZES = [(64, 48), (48, 64), (50, 50), (97, 31), (31, 97), (200, 20), (7, 5)]


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


def picture(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Noise over a gradient, and labels 1 to 8: none of the class 0 that GluonCV pads with."""
    rng = np.random.default_rng(size)
    width, height = size
    pixels = rng.integers(0, 128, (height, width, 3)) + np.linspace(0, 127, width)[:, None]
    labels = rng.integers(1, 9, (height, width))
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(labels.astype(np.uint8))


@pytest.mark.req("R3")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("crop_size", "base_size"), [(24, 64), (64, 40), (40, 40)])
def test_training_transform_equals_gluoncv_but_for_the_padding(
    dataset: type[Any], size: tuple[int, int], crop_size: int, base_size: int
) -> None:
    image, mask = picture(size)
    theirs = dataset(crop_size, base_size)
    padded = 0
    for seed in range(20):
        random.seed(seed)
        expected_image, expected_mask = theirs._sync_transform(image, mask)
        state = random.getstate()
        rng = random.Random(seed)
        our_image, our_mask = train_transform(image, np.asarray(mask), crop_size, base_size, rng)
        np.testing.assert_array_equal(our_image, expected_image)
        np.testing.assert_array_equal(our_mask, np.where(expected_mask == 0, IGNORED, expected_mask))
        assert rng.getstate() == state  # draw for draw
        padded += int((expected_mask == 0).sum())
    assert padded or crop_size == 24


@pytest.mark.req("R3")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_size", [8, 31, 64])
def test_validation_transform_equals_gluoncv(dataset: type[Any], size: tuple[int, int], crop_size: int) -> None:
    image, mask = picture(size)
    expected_image, expected_mask = dataset(crop_size, 0)._val_sync_transform(image, mask)
    our_image, our_mask = validation_transform(image, np.asarray(mask), crop_size)
    np.testing.assert_array_equal(our_image, expected_image)
    np.testing.assert_array_equal(our_mask, expected_mask)
