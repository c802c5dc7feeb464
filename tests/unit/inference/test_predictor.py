from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.errors import ArtifactError
from semseg.inference.predictor import LogitsPrediction, Predictor, normalise
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.inference.upsampling import upsampled_blocks
from semseg.types import Float32, UInt8


class EighthOfImage(OnHost):
    """A backend whose logits are the image's normalised channels at every eighth pixel."""

    def logits(self, images: Float32) -> Float32:
        assert images.dtype == np.float32
        return images[:, :, ::8, ::8]


def random_image(height: int, width: int) -> UInt8:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_logits(classes: int, height: int, width: int) -> Float32:
    return np.random.default_rng(3).normal(scale=4, size=(classes, height, width)).astype(np.float32)


def upsampled(scores: Float32, height: int, width: int) -> Float32:
    whole = np.empty((len(scores), height, width), np.float32)
    for rows, columns, block in upsampled_blocks(scores, height, width):
        whole[:, rows, columns] = block
    return whole


def test_normalise_is_the_input_transform_of_gluoncv() -> None:
    image = random_image(5, 7)
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    normalised = normalise(image)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised[0], expected.transpose(2, 0, 1), rtol=0, atol=1e-6)


@pytest.mark.req("R2", "R10")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (8, 8), (17, 30), (64, 33)])
def test_every_size_gets_labels_and_probabilities_of_that_size(height: int, width: int) -> None:
    prediction = Predictor(EighthOfImage(), num_classes=3, max_tile_pixels=10**6).predict(random_image(height, width))
    labels, probabilities = prediction.labels(), prediction.probabilities()
    assert labels.shape == (height, width)
    assert labels.dtype == np.uint8
    assert probabilities.shape == (3, height, width)
    assert probabilities.dtype == np.float32


@pytest.mark.req("R1", "R53")
@pytest.mark.parametrize("classes", [2, 21, 254])
def test_labels_and_probabilities_are_argmax_and_softmax_of_the_upsampled_logits(classes: int) -> None:
    logits = random_logits(classes, 5, 9)
    scores = upsampled(logits, 40, 65)
    exponentials = np.exp(scores.astype(np.float64))

    prediction = LogitsPrediction(logits, 40, 65)

    np.testing.assert_array_equal(prediction.labels(), scores.argmax(axis=0))
    np.testing.assert_allclose(
        prediction.probabilities(), exponentials / exponentials.sum(axis=0), rtol=1e-5, atol=1e-9
    )


def test_of_equal_logits_the_first_class_wins() -> None:
    assert not LogitsPrediction(np.ones((4, 2, 2), np.float32), 9, 9).labels().any()


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([1000, -1000, 999], dtype=np.float32).reshape(3, 1, 1)
    probabilities = LogitsPrediction(logits, 2, 2).probabilities()
    np.testing.assert_allclose(probabilities[:, 0, 0], [0.7310586, 0, 0.26894143], rtol=1e-6)


def test_labels_need_no_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(np, "exp")
    assert LogitsPrediction(random_logits(3, 2, 2), 9, 9).labels().shape == (9, 9)


def test_labels_never_hold_all_scores_at_full_size() -> None:
    prediction = LogitsPrediction(random_logits(21, 64, 64), 512, 512)
    tracemalloc.start()
    prediction.labels()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 21 * 512 * 512 * 4 / 2


def test_probabilities_are_computed_in_the_memory_of_the_answer() -> None:
    prediction = LogitsPrediction(random_logits(21, 64, 64), 512, 512)
    tracemalloc.start()
    prediction.probabilities()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 21 * 512 * 512 * 4 * 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize(("classes", "height", "width"), [(2, 1, 1), (21, 70, 300), (254, 17, 40)])
def test_smaller_numbers_are_the_same_probabilities_rounded(dtype: type, classes: int, height: int, width: int) -> None:
    prediction = LogitsPrediction(random_logits(classes, -(-height // 8), -(-width // 8)), height, width)
    exact = prediction.probabilities()
    found = prediction.probabilities(dtype)
    assert found.dtype == dtype
    if dtype == np.uint8:
        np.testing.assert_array_equal(found, np.rint(exact * np.float32(255)))
    else:
        rounding = 2.0**-11 if dtype == np.float16 else 0
        np.testing.assert_allclose(found.astype(np.float32), exact, rtol=rounding, atol=2.0**-24)

    labels, confidence = prediction.confidence(dtype)
    assert confidence.dtype == dtype
    np.testing.assert_array_equal(labels, prediction.labels())
    np.testing.assert_allclose(confidence, found.max(axis=0), rtol=1e-3 if dtype == np.float16 else 1e-5)


def test_the_confidence_is_that_of_the_first_of_equals() -> None:
    labels, confidence = LogitsPrediction(np.ones((4, 2, 2), np.float32), 9, 9).confidence()
    assert not labels.any()
    assert (confidence == 0.25).all()


@pytest.mark.parametrize(("dtype", "each"), [(np.float16, 2), (np.uint8, 1)])
def test_smaller_numbers_take_no_more_memory_than_they_have(dtype: type, each: int) -> None:
    prediction = LogitsPrediction(random_logits(21, 64, 64), 512, 512)
    tracemalloc.start()
    prediction.probabilities(dtype)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 21 * 512 * 512 * each + (8 << 20)


def test_the_confidence_never_holds_all_probabilities() -> None:
    prediction = LogitsPrediction(random_logits(21, 64, 64), 512, 512)
    tracemalloc.start()
    prediction.confidence()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 512 * 512 + (8 << 20) < 21 * 512 * 512 * 4 / 2


class Sometimes(OnHost):
    """A network with a value of its own in the last of so many tiles."""

    def __init__(self, value: float, tiles: int) -> None:
        self._value, self._tiles = value, tiles

    def logits(self, images: Float32) -> Float32:
        logits = images[:, :, ::8, ::8].copy()
        self._tiles -= 1
        if not self._tiles:
            logits[0, 1, -1, -1] = self._value
        return logits


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("size", "tiles"), [((8, 8), 1), ((300, 300), 2)])
def test_a_network_that_computes_no_numbers_is_an_error(value: float, size: tuple[int, int], tiles: int) -> None:
    """Softmax of them would be no numbers either, and the class of each pixel the first."""
    predictor = Predictor(Sometimes(value, tiles), 3, max_tile_pixels=SMALLEST_BUDGET, origin="/opt/ml/model")
    with pytest.raises(ArtifactError, match=r"The network of /opt/ml/model computes values that are infinite or NaN"):
        predictor.predict(random_image(*size))
    assert predictor.predict(random_image(*size)).labels().shape == size
