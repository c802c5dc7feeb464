from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semseg.data.augment import train_transform, validation_transform
from semseg.types import IGNORED, UInt8


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def picture(width: int, height: int) -> tuple[Image.Image, UInt8]:
    """White, all of class 1."""
    return Image.new("RGB", (width, height), "white"), np.ones((height, width), np.uint8)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 999))
def test_what_lies_beyond_the_picture_is_black_and_ignored(width: int, height: int, seed: int) -> None:
    image, labels = train_transform(*picture(width, height), 32, 20, seeded(seed))
    assert (image.shape, labels.shape) == ((32, 32, 3), (32, 32))
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {1, IGNORED}
    inside = labels == 1
    assert inside.any()
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert inside[:rows, :columns].all()  # a rectangle in the upper left corner
    assert inside.sum() == rows * columns
    assert (image[labels == IGNORED] < 128).all()  # but for the blur


def test_only_the_generator_decides() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8), rng.integers(0, 9, (40, 50)).astype(np.uint8)
    results = [train_transform(Image.fromarray(pixels), labels, 24, 40, seeded(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[0][0] != results[2][0]).any()


def test_the_inputs_stay_as_they_are() -> None:
    image, labels = picture(30, 20)
    train_transform(image, labels, 64, 40, seeded(0))
    validation_transform(image, labels, 16)
    assert np.asarray(image).min() == 255
    assert labels.min() == labels.max() == 1


@pytest.mark.parametrize(("width", "height"), [(1, 20_000), (20_000, 1), (1, 1)])
def test_thin_pictures_need_no_more_memory_than_others(width: int, height: int) -> None:
    for image, labels in (
        train_transform(*picture(width, height), 48, 64, seeded(0)),
        validation_transform(*picture(width, height), 48),
    ):
        assert (image.shape, labels.shape) == ((48, 48, 3), (48, 48))
        assert (labels == 1).any()


def test_validation_takes_the_middle() -> None:
    labels = np.zeros((16, 48), np.uint8)
    labels[:, 16:32] = 1
    image = Image.fromarray(labels * np.uint8(200)).convert("RGB")
    cut_image, cut_labels = validation_transform(image, labels, 16)
    assert (cut_image == 200).all()
    assert (cut_labels == 1).all()
