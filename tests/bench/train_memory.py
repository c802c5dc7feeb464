"""Measures the memory of training, and whether it grows.

Prints the peak of a process that trains FCN with batches of 4, validates and saves a checkpoint, for both backbones at
crop 240 and 480.
`train_memory_growth`: the resident memory of a process with ResNet-50 at crop 240 after 200 more steps, over that after
the first 20.

--steps N: instead of 200. The images are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid; without them,
generated ones.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from _train_data import BASE, BATCH, CLASSES, endless, training_folder, training_pairs
from gluon_models import learner_from_scratch
from untrained import specification

from semseg.data.label_map import DEFAULT, parse_label_map
from semseg.data.loader import ValidationLoader
from semseg.data.pairs import Pair
from semseg.data.samples import Sampler
from semseg.machine import keep_memory_flat
from semseg.training.checkpoints import Checkpoints
from semseg.training.progress import Progress
from semseg.training.recipe import MMAP_THRESHOLD

WARM_UP, STEPS, BAR = 20, 200, 1.01
PAGES_IN_MIB = 256


def main() -> int:
    """Prints the table; returns 1 if the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        pairs = training_pairs(training_folder(Path(folder)))
        print("backbone    crop  peak (MiB)")
        for backbone in ("resnet-50", "resnet-101"):
            for crop in (240, 480):
                print(f"{backbone:10}  {crop:4}  {max(resident(pairs, backbone, crop, 3)):10.0f}", flush=True)
        sizes = resident(pairs, "resnet-50", 240, WARM_UP + steps)
    before, after = sizes[WARM_UP - 1], sizes[-2]
    print(f"after {WARM_UP} steps {before:.0f} MiB, after {steps} more {after:.0f} MiB")
    growth = after / before
    print(f"train_memory_growth: {growth:.4f}, bar {BAR}, {'ok' if growth < BAR else 'short'}")
    return int(growth >= BAR)


def resident(pairs: Sequence[Pair], backbone: str, crop: int, steps: int) -> list[float]:
    """The resident MiB of a new process after each step, and, last, its peak."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(trained, pairs, backbone, crop, steps).result()


def trained(pairs: Sequence[Pair], backbone: str, crop: int, steps: int) -> list[float]:
    """Trains in this process, as a job does."""
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)
    sampler = Sampler(parse_label_map(DEFAULT, CLASSES, "the label map"), crop, max(BASE, crop), seed=0, workers=16)
    learner = learner_from_scratch(specification("fcn", CLASSES, backbone=backbone))
    sizes = []
    for step, batch in enumerate(islice(endless(pairs, sampler), steps)):
        float(learner.train_step(batch, 0.001, step))
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) / PAGES_IN_MIB)
    learner.evaluate(next(ValidationLoader(pairs, sampler, BATCH).epoch(0)))
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder), {}).save(Progress(iteration=steps), learner.state(), Path(folder) / "best")
    return [*sizes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]


if __name__ == "__main__":
    sys.exit(main())
