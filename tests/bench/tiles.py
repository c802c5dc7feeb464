"""Compares masks from tiles with those of whole images, for each network, and prints the cost of the overlap.

Uses CamVid's images, enlarged to 960 x 720, and networks trained on them for a few minutes (`_models`), in f32. Tiles
have at most 512 x 512 pixels, far below the default, so that every pixel is near an edge; default tiles differ less.
"""

from __future__ import annotations

import sys

import numpy as np
from _models import jpeg_images, trained_model

from semseg.codecs.images import decode_image
from semseg.inference.load import load_predictor
from semseg.inference.tiling import plan

SIZE, TILE, IMAGES = (960, 720), 512 * 512, 3
CELL = 8
"""The networks' stride."""

BARS = {"fcn": 0.98, "psp": 0.95, "deeplab": 0.95}
EPOCHS = {"fcn": 2, "psp": 1, "deeplab": 1}


def main() -> int:
    """Prints a row for each network; returns 1 if one misses its bar."""
    images = [decode_image(body) for body in jpeg_images(SIZE, IMAGES)]
    down, across = plan(SIZE[1], SIZE[0], TILE, CELL)
    computed = CELL**2 * down.tiles * down.length * across.tiles * across.length / (SIZE[0] * SIZE[1])
    print(
        f"{down.tiles} x {across.tiles} tiles of {CELL * across.length} x {CELL * down.length} pixels compute "
        f"{computed:.2f} times the image"
    )
    missed = 0
    for algorithm, bar in BARS.items():
        model_dir = trained_model(algorithm, EPOCHS[algorithm]) / "model"
        whole, tiles = (load_predictor(model_dir, "openvino", "f32", pixels).predictor for pixels in (10**9, TILE))
        same = np.mean([whole.predict(image).labels() == tiles.predict(image).labels() for image in images])
        missed += same < bar
        print(f"tiles_{algorithm}: {same:.4f}, bar {bar}, {'ok' if same >= bar else 'short'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
