from __future__ import annotations

import pytest

from semseg.inference.load import BACKENDS
from semseg.inference.memory import BYTES_PER_PIXEL, request_bytes, tile_pixels
from semseg.inference.tiling import SMALLEST_BUDGET


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
    logits = 4 * classes * -(-height // 8) * -(-width // 8)
    assert request_bytes(*size, answer=4 * classes) >= (3 + 4 * classes) * height * width + logits
    assert request_bytes(*size, answer=2) == 14 * height * width + logits  # decoding takes more
