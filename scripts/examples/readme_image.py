"""Draws the image of README.md: a generated scene, the colours of its mask over it, and the mask, side by side.

.venv/bin/python scripts/examples/readme_image.py scripts/examples/shapes.webp
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from semseg.codecs.overlays import overlay
from semseg.data.shapes import COLORS, draw

image, mask = draw((300, 200), np.random.default_rng(6))
colours = np.zeros((256, 3), np.uint8)
colours[: len(COLORS)] = [list(color.to_bytes(3)) for color in COLORS]
Image.fromarray(np.hstack([image, overlay(image, mask, colours), colours[mask]])).save(sys.argv[1], quality=80)
