from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ImageFile import ImageFile

from semseg.codecs.images import open_image
from semseg.data.augment import train_transform, validation_transform
from semseg.errors import ImageError
from semseg.types import IGNORED, UInt8

TABLE = np.arange(256, dtype=np.uint8)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)


def opened(image: Image.Image | UInt8, kind: str = "PNG") -> ImageFile:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind)
    return open_image(file.getvalue())


def random_image(width: int, height: int, kind: str = "PNG") -> tuple[ImageFile, UInt8, UInt8]:
    """White, all of class 1."""
    return opened(Image.new("RGB", (width, height), "white"), kind), np.ones((height, width), np.uint8), TABLE


def covered(size: tuple[int, int], crop_size: int, base_size: int, rng: random.Random) -> tuple[int, int]:
    """(height, width) of the crop's part within the image, by GluonCV's first draws; a side is at least 1."""
    rng.random()
    long_side = rng.randint(int(base_size * 0.5), int(base_size * 2.0))
    width, height = (max(1, int(1.0 * side * long_side / max(size) + 0.5)) for side in size)
    return min(crop_size, height), min(crop_size, width)


thin = st.sampled_from([(1, 1), (1, 5000), (5000, 1), (3000, 2), (2, 3000)])
small = st.tuples(st.integers(1, 90), st.integers(1, 90))
kinds = st.sampled_from(["PNG", "JPEG"])


@given(small | thin, st.sampled_from([6, 17, 32]), st.integers(2, 80), st.integers(0, 999), kinds)
def test_what_lies_beyond_the_image_is_black_and_ignored(
    size: tuple[int, int], crop_size: int, base_size: int, seed: int, kind: str
) -> None:
    image, labels = train_transform(*random_image(*size, kind), crop_size, base_size, seeded(seed))
    assert (image.shape, labels.shape) == ((crop_size, crop_size, 3), (crop_size, crop_size))
    assert image.dtype == labels.dtype == np.uint8
    height, width = covered(size, crop_size, base_size, seeded(seed))
    assert (labels[:height, :width] == 1).all()
    assert (labels[height:] == IGNORED).all()
    assert (labels[:, width:] == IGNORED).all()
    assert (image[labels == IGNORED] < 128).all()  # but for the blur
    assert (image[labels == 1] > 63).all()  # in a corner, blurred from two sides


@given(small | thin, st.sampled_from([1, 8, 33]), kinds)
def test_validation_shows_nothing_beyond_the_image(size: tuple[int, int], crop_size: int, kind: str) -> None:
    image, labels = validation_transform(*random_image(*size, kind), crop_size)
    assert image.shape == (crop_size, crop_size, 3)
    assert labels.shape == (crop_size, crop_size)
    assert (image == 255).all()
    assert (labels == 1).all()


def test_only_the_generator_decides() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8), rng.integers(0, 9, (40, 50)).astype(np.uint8)
    results = [train_transform(opened(pixels), labels, TABLE, 24, 40, seeded(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[0][0] != results[2][0]).any()


def test_the_inputs_stay_as_they_are() -> None:
    image, values, table = random_image(30, 20)
    train_transform(image, values, table, 64, 40, seeded(0))
    validation_transform(opened(Image.new("RGB", (30, 20))), values, table, 16)
    assert values.min() == values.max() == 1
    np.testing.assert_array_equal(table, np.arange(256))


def test_labels_are_those_of_the_table() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    table = np.random.default_rng(0).permutation(TABLE)
    image = Image.new("RGB", (16, 16))
    for seed in range(8):
        labels = train_transform(opened(image), values, table, 24, 20, seeded(seed))[1]
        plain = train_transform(opened(image), values, TABLE, 24, 20, seeded(seed))[1]
        height, width = covered((16, 16), 24, 20, seeded(seed))
        np.testing.assert_array_equal(labels[:height, :width], table[plain[:height, :width]])
        assert (labels[height:] == IGNORED).all()
    labels = validation_transform(opened(image), values, table, 16)[1]
    np.testing.assert_array_equal(labels, table[values])


def test_image_and_mask_stay_one_upon_the_other() -> None:
    """A mask that marks the bright half of its image does so after any transform, at any resolution of decoding."""
    bright = np.zeros((96, 640), np.uint8)
    bright[:, 200:] = 1
    for seed in range(40):
        file = opened(Image.fromarray(bright * np.uint8(255)).convert("RGB"), "JPEG")
        image, labels = train_transform(file, bright, TABLE, 32, 60, seeded(seed))
        green = image[..., 1].astype(int)
        assert (abs(green - 255 * (labels == 1)) < 128)[labels != IGNORED].mean() > 0.98


@pytest.mark.parametrize(("width", "height"), [(1, 20_000), (20_000, 1), (1, 1)])
def test_thin_images_need_no_more_memory_than_others(width: int, height: int) -> None:
    for image, labels in (
        train_transform(*random_image(width, height), 48, 64, seeded(0)),
        validation_transform(*random_image(width, height), 48),
    ):
        assert (image.shape, labels.shape) == ((48, 48, 3), (48, 48))
        assert (labels == 1).any()


def test_validation_takes_the_middle() -> None:
    labels = np.zeros((16, 48), np.uint8)
    labels[:, 16:32] = 1
    image = Image.fromarray(labels * np.uint8(200)).convert("RGB")
    cut_image, cut_labels = validation_transform(opened(image), labels, TABLE, 16)
    assert (cut_image == 200).all()
    assert (cut_labels == 1).all()


def test_an_image_cut_short_is_an_error_at_any_resolution_of_decoding() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    values = np.zeros((200, 300), np.uint8)
    for base_size in (16, 150, 600):
        with pytest.raises(ImageError, match="cannot be decoded"):
            train_transform(open_image(file.getvalue()[:-2000]), values, TABLE, 8, base_size, seeded(0))
    with pytest.raises(ImageError, match="cannot be decoded"):
        validation_transform(open_image(file.getvalue()[:-2000]), values, TABLE, 8)
