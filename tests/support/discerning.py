"""Dark and bright images with their labels, which the network of `small_model` classifies."""

from __future__ import annotations

import numpy as np
from small_model import BRIGHT, DARK

from semseg.types import UInt8


def noisy_image(brightness: int, seed: int = 0) -> UInt8:
    """An image (40, 48, 3) of noise, up to 20 levels around a brightness."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 48, 3))
    return (brightness + noise).astype(np.uint8)


def labelled(count: int = 3) -> list[tuple[UInt8, UInt8 | None]]:
    """Pairs of a dark and a bright image, alternating, each with its mask of class ids."""
    levels = [(DARK, 40), (BRIGHT, 200)] * count
    return [
        (noisy_image(level, seed), np.full((40, 48), label, np.uint8)) for seed, (label, level) in enumerate(levels)
    ]
