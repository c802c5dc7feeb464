"""Replays two jobs that failed with the built-in algorithm's DeepLabV3: every image must get its mask.

sagemaker-python-sdk #2084: a batch transform of 168 images of 960 x 540, two at a time, during which workers died after
60 s. #1284: images of 2826 x 2255, here two at once.
"""

from __future__ import annotations

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from _models import Server, jpeg_images, random_model, serving
from PIL import Image

BATCH, BATCH_SIZE, AT_ONCE = 168, (960, 540), 2
LARGE_SIZE = (2826, 2255)


def main() -> int:
    """Prints the number of masks and the time they took; returns 1 if one is missing."""
    job = random_model("deeplab", "resnet-50")
    with serving(job, SAGEMAKER_BATCH="true") as server:
        assert server
        bodies = jpeg_images(BATCH_SIZE, 12)[:12]
        batch = count_masks(server, [bodies[number % 12] for number in range(BATCH)], BATCH_SIZE)
        large = count_masks(server, jpeg_images(LARGE_SIZE, AT_ONCE)[:AT_ONCE], LARGE_SIZE)
        print(f"peak memory {server.peak_bytes() / 1e9:.2f} GB")
    kept = []
    for name, count, bar in (("replay of #2084", batch, BATCH), ("replay of #1284", large, AT_ONCE)):
        kept.append(count == bar)
        print(f"{name}: {count}, bar {bar}, {'ok' if kept[-1] else 'short'}")
    return int(not all(kept))


def count_masks(server: Server, bodies: list[bytes], size: tuple[int, int]) -> int:
    """The number of images that get a mask of their size, with AT_ONCE concurrent requests."""

    def ask(body: bytes) -> bool:
        try:
            return Image.open(io.BytesIO(server.mask(body))).size == size
        except (AssertionError, OSError) as error:
            print(f"no mask: {error!r:.300}")
            return False

    begin = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        count = sum(clients.map(ask, bodies))
    each = (time.perf_counter() - begin) / len(bodies)
    print(f"{len(bodies)} images of {size[0]}x{size[1]}, {AT_ONCE} at a time: {each:.2f} s each")
    return count


if __name__ == "__main__":
    sys.exit(main())
