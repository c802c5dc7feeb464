from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.errors import DataError
from semseg.inference.predictor import Predictor
from semseg.inference.scoring import Labelled, score_pairs
from semseg.types import IGNORED, Float32, UInt8

IMAGE = np.zeros((16, 24, 3), np.uint8)


class Constant(OnHost):
    """A network that says one class of every pixel, and counts the images it is given."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.seen = 0

    def logits(self, images: Float32) -> Float32:
        self.seen += 1
        height, width = images.shape[2:]
        logits = np.zeros((1, 3, -(-height // 8), -(-width // 8)), np.float32)
        logits[:, self.label] = 1
        return logits


def predictor(network: Constant) -> Predictor:
    return Predictor(network, 3, max_tile_pixels=10**6)


def halves(left: int, right: int) -> UInt8:
    labels = np.full((16, 24), left, np.uint8)
    labels[:, 12:] = right
    return labels


def test_each_predictor_has_a_matrix_of_all_images() -> None:
    pairs: list[Labelled] = [(IMAGE, halves(0, 1)), (IMAGE, halves(1, IGNORED))]
    (zeros, ones), images = score_pairs([predictor(Constant(0)), predictor(Constant(1))], pairs)
    assert images == 2
    np.testing.assert_array_equal(zeros.counts, [[192, 0, 0], [384, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(ones.counts, [[0, 192, 0], [0, 384, 0], [0, 0, 0]])


def test_one_predictor_scores_images_of_any_size() -> None:
    pairs: list[Labelled] = [(np.zeros((*size, 3), np.uint8), np.full(size, 2, np.uint8)) for size in [(1, 1), (9, 30)]]
    (matrix,), images = score_pairs([predictor(Constant(2))], pairs)
    assert (images, matrix.counts[2, 2], matrix.counts.sum()) == (2, 271, 271)


def test_without_labels_the_first_predictor_is_right() -> None:
    """For the image that has none, and for no other."""
    pairs: list[Labelled] = [(IMAGE, None), (IMAGE, halves(2, 2))]
    (first, second), _ = score_pairs([predictor(Constant(0)), predictor(Constant(1))], pairs)
    np.testing.assert_array_equal(first.counts, [[384, 0, 0], [0, 0, 0], [384, 0, 0]])
    np.testing.assert_array_equal(second.counts, [[0, 384, 0], [0, 0, 0], [0, 384, 0]])


def test_of_no_images_there_is_nothing_to_count() -> None:
    (matrix,), images = score_pairs([predictor(Constant(0))], [])
    assert (images, matrix.counts.sum()) == (0, 0)


def test_an_image_is_asked_for_when_all_have_segmented_the_one_before() -> None:
    networks = [Constant(0), Constant(1)]

    def pairs() -> Iterator[Labelled]:
        for number in range(3):
            assert [network.seen for network in networks] == [number, number]
            yield IMAGE, None
        raise DataError("The fourth is damaged.")

    with pytest.raises(DataError, match="The fourth"):
        score_pairs([predictor(network) for network in networks], pairs())
    assert [network.seen for network in networks] == [3, 3]
