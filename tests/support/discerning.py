"""Images whose pixels are dark or bright, and what is which: `small_model` tells them apart."""

from __future__ import annotations

import numpy as np
from small_model import BRIGHT, DARK

from semseg.types import UInt8


def picture(brightness: int, seed: int = 0) -> UInt8:
    """Noise of 40 levels around a brightness."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 48, 3))
    return (brightness + noise).astype(np.uint8)


def labelled(count: int = 3) -> list[tuple[UInt8, UInt8 | None]]:
    """Dark and bright images in turn, with the classes of their pixels."""
    levels = [(DARK, 40), (BRIGHT, 200)] * count
    return [(picture(level, seed), np.full((40, 48), label, np.uint8)) for seed, (label, level) in enumerate(levels)]
