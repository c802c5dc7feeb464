"""Times `semseg predict` on the 101 validation images of CamVid against the network alone, on the same images.

FCN-ResNet50 of 11 classes, with random weights, on the engine and in the precision that `auto` chooses. The two take
turns; the model is loaded before. The network alone gets images that are decoded already, and its logits are dropped.
Without CamVid, generated images stand in. It takes about five minutes on two idle cores.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import deque
from pathlib import Path

from _models import data, random_model
from _turns import timed

from semseg.codecs.images import decode_image
from semseg.data.s3 import ObjectStore
from semseg.offline.model import Model, load
from semseg.offline.outputs import OUTPUTS
from semseg.offline.predict import plan, predict
from semseg.offline.sources import Source, find_images
from semseg.types import UInt8

CLASSES = 11
ROUNDS = 5
BAR = 1.05


def main() -> int:
    """Prints the times of each round; returns 1 if the median of their ratios misses the bar."""
    model = load(str(random_model("fcn", "resnet-50", CLASSES)))
    with ObjectStore() as store:
        sources = find_images([str(data() / "validation")], store, Path())
    images = [decode_image(source.file.read()) for source in sources]
    alone(model, images[:5])
    ratios = []
    for number in range(ROUNDS):
        seconds = timed(lambda: alone(model, images)), timed(lambda: folder(model, sources))
        ratios.append(seconds[1] / seconds[0])
        print(
            f"round {number + 1}: the network alone {1000 * seconds[0] / len(images):.1f} ms per image, "
            f"semseg predict {1000 * seconds[1] / len(images):.1f} ms"
        )
    overhead = statistics.median(ratios)
    print(f"folder_overhead: {overhead:.3f}, bar {BAR}, {'ok' if overhead <= BAR else 'short'}")
    return int(overhead > BAR)


def alone(model: Model, images: list[UInt8]) -> None:
    """Lets the network compute the images."""
    for image in images:
        model.segment(image)


def folder(model: Model, sources: list[Source]) -> None:
    """Does what `semseg predict` does once its model is loaded."""
    with tempfile.TemporaryDirectory() as out:
        planned = plan(sources, Path(out), [OUTPUTS["mask"]], None, model.class_names, skip=False)
        deque(predict(model, planned), maxlen=0)


if __name__ == "__main__":
    sys.exit(main())
