from __future__ import annotations

import numpy as np
import pytest
from fake_backend import OnHost

from semseg.exporting.gate import compare
from semseg.inference.predictor import Predictor
from semseg.types import Float32, UInt8


class Constant(OnHost):
    """Says the same class of every pixel, or, from half of the width on, another."""

    def __init__(self, left: int, right: int) -> None:
        self._classes = left, right

    def logits(self, images: Float32) -> Float32:
        scores = np.zeros((1, 3, *images.shape[2:]), np.float32)
        half = images.shape[3] // 2
        scores[:, self._classes[0], :, :half] = 1
        scores[:, self._classes[1], :, half:] = 1
        return scores


def predictor(left: int, right: int) -> Predictor:
    return Predictor(Constant(left, right), 3, max_tile_pixels=10**6)


PICTURE = np.zeros((4, 8, 3), np.uint8)
TRUTH: UInt8 = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 4, axis=0).astype(np.uint8)


def test_both_are_measured_against_the_annotations() -> None:
    gate = compare(predictor(0, 1), predictor(0, 0), [(PICTURE, TRUTH)] * 2)
    assert [gate.f32, gate.int8] == pytest.approx([2 / 3, 0.5 / 3])
    assert gate.images == 2
    assert compare(predictor(0, 0), predictor(0, 1), [(PICTURE, TRUTH)]).fall == pytest.approx(-0.5)


def test_without_annotations_f32_is_the_truth() -> None:
    """However wrong it may be: what is measured is how much int8 changes."""
    assert compare(predictor(2, 2), predictor(2, 2), [(PICTURE, None)]).fall == 0
    gate = compare(predictor(1, 0), predictor(0, 1), [(PICTURE, None)])
    assert [gate.f32, gate.int8] == pytest.approx([2 / 3, 0])
