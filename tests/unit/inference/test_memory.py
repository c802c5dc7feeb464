from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from semseg.inference.memory import divided, request_bytes, tile_pixels
from semseg.inference.predictor import LogitsPrediction
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.inference.upsampling import upsampled_blocks


def test_a_tile_takes_half_of_the_memory_but_not_all_of_a_large_machine() -> None:
    assert tile_pixels(10**9, 500) == 10**6
    assert tile_pixels(10**11, 500) == tile_pixels(10**12, 500) < 4 * 10**6
    assert tile_pixels(0, 500) == SMALLEST_BUDGET


def test_a_tile_on_the_host_takes_from_the_memory_of_requests() -> None:
    assert divided(10**9, None, 500) == (10**6, 10**9 - 500 * 10**6)
    assert divided(10**9, None, 500, given=10**5) == (10**5, 10**9 - 500 * 10**5)
    assert divided(10**9, None, 500, given=10**8) == (10**8, 500_000_000)


def test_a_tile_on_a_gpu_has_half_of_the_gpu_s_memory_and_hardly_any_of_the_host_s() -> None:
    small_gpu, large_host = divided(64 << 30, 2 << 30, 1000)
    assert small_gpu == (1 << 30) // 1000
    assert large_host > 63 << 30
    beyond_a_host_s = 4 * tile_pixels(10**12, 1000)
    assert divided(64 << 30, 15 << 30, 1000)[0] > beyond_a_host_s
    assert divided(64 << 30, 0, 1000)[0] == SMALLEST_BUDGET
    assert divided(64 << 30, 2 << 30, 1000, given=10**5)[0] == 10**5


def test_a_tile_on_a_gpu_has_fewer_numbers_than_32_bits_count_and_a_place_on_the_host() -> None:
    widest_of_psp = 4096 // 64
    assert divided(1 << 40, 140 << 30, 1000)[0] * widest_of_psp < 1 << 31
    pixels, left = divided(10**8, 140 << 30, 1000)
    assert 12 * pixels < 10**8 // 2
    assert left >= 10**8 // 2


@pytest.mark.parametrize("size", [(21, 100, 130), (254, 1, 5000), (2, 333, 1)])
def test_a_request_counts_its_image_its_logits_and_its_answer(size: tuple[int, int, int]) -> None:
    classes, height, width = size
    logits, sides = 4 * classes * -(-height // 8) * -(-width // 8), 32 * (height + width)
    assert request_bytes(*size, 8, answer=4 * classes) >= (3 + 4 * classes) * height * width + logits + sides
    assert request_bytes(*size, 8, answer=2) == 14 * height * width + logits + sides  # decoding takes more


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
    assert peak + logits.nbytes + 3 * size[0] * size[1] <= request_bytes(3, *size, 8, answer) + blocks


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_the_sides_of_a_narrow_image_are_counted(size: tuple[int, int]) -> None:
    logits = np.zeros((3, *(-(-side // 8) for side in size)), np.float32)
    tracemalloc.start()
    next(upsampled_blocks(logits, *size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20 * 10**6 < peak < request_bytes(3, *size, 8, 0) - 3 * 10**6 - logits.nbytes
