from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from semseg.inference.load import BACKENDS
from semseg.inference.memory import BYTES_PER_PIXEL, request_bytes, tile_pixels
from semseg.inference.predictor import LogitsPrediction
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.inference.upsampling import upsampled_blocks


def test_every_engine_and_algorithm_has_a_figure() -> None:
    assert {engine: set(figures) for engine, figures in BYTES_PER_PIXEL.items()} == {
        engine: {"fcn", "psp", "deeplab"} for engine in BACKENDS if engine != "auto"
    }


def test_a_tile_takes_half_of_the_memory_but_not_all_of_a_large_machine() -> None:
    assert tile_pixels(10**9, 500) == 10**6
    assert tile_pixels(10**11, 500) == tile_pixels(10**12, 500) < 4 * 10**6
    assert tile_pixels(0, 500) == SMALLEST_BUDGET


@pytest.mark.parametrize("size", [(21, 100, 130), (254, 1, 5000), (2, 333, 1)])
def test_a_request_counts_its_picture_its_logits_and_its_answer(size: tuple[int, int, int]) -> None:
    classes, height, width = size
    logits, sides = 4 * classes * -(-height // 8) * -(-width // 8), 32 * (height + width)
    assert request_bytes(*size, answer=4 * classes) >= (3 + 4 * classes) * height * width + logits + sides
    assert request_bytes(*size, answer=2) == 14 * height * width + logits + sides  # decoding takes more


@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1), (450, 450)])
@pytest.mark.parametrize(("what", "answer"), [("labels", 2), ("probabilities", 12)])
def test_a_prediction_of_any_shape_takes_no_more_than_is_counted(size: tuple[int, int], what: str, answer: int) -> None:
    """The blocks in which it is made are the same for every size."""
    blocks = 16 << 20
    logits = np.zeros((3, *(-(-side // 8) for side in size)), np.float32)
    tracemalloc.start()
    getattr(LogitsPrediction(logits, *size), what)()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + logits.nbytes + 3 * size[0] * size[1] <= request_bytes(3, *size, answer) + blocks


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_the_sides_of_a_narrow_picture_are_counted(size: tuple[int, int]) -> None:
    logits = np.zeros((3, *(-(-side // 8) for side in size)), np.float32)
    tracemalloc.start()
    next(upsampled_blocks(logits, *size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20 * 10**6 < peak < request_bytes(3, *size, 0) - 3 * 10**6 - logits.nbytes
