"""Compares how fast the loader makes batches with how fast the device trains on them, alone and together."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from _gpu_common import CLASSES, LEARNING_RATE, PRECISIONS, Bench, Plan, noise_batch, seconds_a_step
from bench_stages import Row, SkippedError

from semseg.machine import usable_cores

CROPS = ((480, 520), (240, 520))
IMAGES = 64
SECONDS = 2.5
NEEDS = ("cykooz_resizer", "simplejpeg")


def rows(plan: Plan) -> Iterator[Row]:
    """A row for each crop, on generated images of CamVid's size, 480 x 360."""
    bench = Bench(plan)
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise SkippedError(f"needs {', '.join(missing)}")
    from semseg.data.shapes import write_shapes

    precision = bench.precisions()[0]
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder), train=4 if plan.tiny else IMAGES, validation=1, size=(480, 360), seed=0)
        for crop, base in CROPS[:1] if plan.tiny else CROPS:
            yield compared(bench, Path(folder), plan.side(crop), base, precision)


def compared(bench: Bench, folder: Path, crop: int, base: int, precision: str) -> Row:
    """Images a second of the loader, of the device on one batch, and of the device on the loader's."""
    images, seconds = bench.plan.batch, bench.plan.seconds(SECONDS)
    learner = bench.learner("fcn", "resnet-50", precision)
    batches = endless(folder, crop, base, images)
    fixed = noise_batch(images, crop)
    train = partial(learner.train_step, learning_rate=LEARNING_RATE, seed=0)
    device = images / seconds_a_step(lambda: train(fixed), seconds)
    together = images / seconds_a_step(lambda: train(next(batches)), seconds)
    loader = images / seconds_a_step(lambda: len(next(batches)), seconds)
    return {
        "what": f"fcn resnet-50 {crop} {PRECISIONS[precision]}",
        "cores": usable_cores(),
        "loader_images_s": round(loader, 1),
        "device_images_s": round(device, 1),
        "together_images_s": round(together, 1),
        "together_of_device": round(together / device, 3),
    }


def endless(folder: Path, crop: int, base: int, images: int) -> Iterator[Any]:
    """Batches with the default augmentation, without end."""
    from semseg.data.label_map import DEFAULT, parse_label_map
    from semseg.data.loader import TrainingLoader
    from semseg.data.pairs import list_pairs
    from semseg.data.samples import Sampler

    pairs = list_pairs("train", folder / "train", folder / "train_annotation").pairs
    sampler = Sampler(parse_label_map(DEFAULT, CLASSES, "the label map"), crop, base, seed=0, workers=usable_cores())
    return chain.from_iterable(map(TrainingLoader(pairs, sampler, images).epoch, count()))
