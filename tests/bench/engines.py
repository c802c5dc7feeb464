"""Compares what the engines learn: MXNet and PyTorch in float32, and PyTorch in bfloat16.

FCN-ResNet50 is trained for 200 steps on CamVid, from the same start on the same batches, without dropout: SGD with
momentum at the default rate, batches of 4, crop 96.
`engines_torch`: the mean loss of PyTorch's last 50 steps, relative to MXNet's: how far it is off, both in float32.
`engines_bf16`: the same of PyTorch in bfloat16, relative to float32.
A training amplifies rounding, so a further one of MXNet starts from values disturbed by 1e-7: it shows how far rounding
alone takes two trainings of one engine from each other.

--miou: compares the accuracy instead. Jobs train as `scripts/demo` does, on more of its generated images and for
longer, an FCN small enough for that (`_engines_network.py`): each engine with the seeds 0 to 2, which give every engine
the same initial values and the same batches, and each its own dropout. bfloat16 is left out on a CPU that does not
compute in it, where `train` refuses it.
`engines_miou_torch`, `engines_miou_bf16`: how far the mean mIOU on whole images is off, in points, as above.

Each training has one thread, so that it is the same on every machine of one kind; as many run at once as there are
cores. The losses take 23 minutes of CPU time, the jobs 10. --tiny: the smallest sizes, to try the script. The images
are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid; without them, generated ones.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from _engines_jobs import JOBS, TINY_JOBS, Jobs, write_images
from _engines_losses import STEPS, TINY_STEPS, Start, Steps, losses
from _train_data import training_folder
from numpy.typing import NDArray

from semseg.machine import has_bf16, usable_cores

Floats = NDArray[np.float64]

TRAININGS = {
    "MXNet f32": ("mxnet", "float32"),
    "PyTorch f32": ("torch", "float32"),
    "PyTorch bf16": ("torch", "bfloat16"),
}
"""What is compared, by the names of rows: engines and what their convolutions compute in."""

COMPARED = {"torch": ("PyTorch f32", "MXNet f32"), "bf16": ("PyTorch bf16", "PyTorch f32")}
"""The rows that bars compare, each with its reference."""

CONTROL = "MXNet f32, start off by 1e-7"
LOSS_BAR, POINT_BAR = 0.02, 1.0


def main() -> int:
    """Runs one of the two parts; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--miou", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that train
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.miou:
            return compare_accuracy(TINY_JOBS if options.tiny else JOBS, folder)
        return compare_losses(TINY_STEPS if options.tiny else STEPS, training_folder(folder))


def compare_losses(plan: Steps, folder: Path) -> int:
    """Prints the losses of all trainings; returns 1 if a bar is missed."""
    starts = {name: Start(*training) for name, training in TRAININGS.items()}
    starts[CONTROL] = Start(*TRAININGS["MXNet f32"], disturbance=1e-7)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cores(), spawn, max_tasks_per_child=1) as processes:
        found = {name: processes.submit(losses, start, plan, folder) for name, start in starts.items()}
        means = print_losses(found, plan.averaged)
    print(
        f"{CONTROL}: {means[CONTROL] / means['MXNet f32'] - 1:+.4f} of the loss of MXNet f32, which is rounding alone"
    )
    off = {name: abs(means[one] / means[other] - 1) for name, (one, other) in COMPARED.items()}
    return print_bars("engines_", off, LOSS_BAR, ".4f")


def print_losses(found: dict[str, Future[list[float]]], averaged: int) -> dict[str, float]:
    """Prints the means of the first and the last steps of each training; returns the latter, by name."""
    print(f"{'':30}first {averaged:3} steps  last {averaged:3} steps", flush=True)
    means = {}
    for name, future in found.items():
        values = future.result()
        means[name] = float(np.mean(values[-averaged:]))
        print(f"{name:30}{np.mean(values[:averaged]):15.4f}{means[name]:16.4f}", flush=True)
    return means


def compare_accuracy(plan: Jobs, folder: Path) -> int:
    """Prints the mIOU of all jobs; returns 1 if a bar is missed."""
    write_images(plan, folder)
    trainings = {name: training for name, training in TRAININGS.items() if has_bf16() or training[1] != "bfloat16"}
    compared = {bar: rows for bar, rows in COMPARED.items() if trainings.keys() >= set(rows)}
    with ThreadPoolExecutor(usable_cores()) as threads:
        found = {
            name: [threads.submit(plan.miou, folder, *training, seed) for seed in range(plan.seeds)]
            for name, training in trainings.items()
        }
        points = print_points(found, plan.seeds)
    means = {name: values.mean() for name, values in points.items()}
    off = {name: abs(means[one] - means[other]) for name, (one, other) in compared.items()}
    for one, other in compared.values():
        error = np.sqrt(sum(points[name].var(ddof=1) / plan.seeds for name in (one, other)))
        print(f"{one} - {other}: {means[one] - means[other]:+.2f} points, standard error {error:.2f}")
    return print_bars("engines_miou_", off, POINT_BAR, ".2f")


def print_points(found: dict[str, list[Future[float]]], seeds: int) -> dict[str, Floats]:
    """Prints the mIOU of each job in points, their mean and deviation; returns the points of the seeds, by name."""
    print(f"{'mIOU in points':16}{''.join(f'  seed {seed}' for seed in range(seeds))}    mean  deviation", flush=True)
    points: dict[str, Floats] = {}
    for name, futures in found.items():
        values = points[name] = np.array([100 * future.result() for future in futures])
        row = "".join(f"{value:8.2f}" for value in values)
        print(f"{name:16}{row}{values.mean():8.2f}{values.std(ddof=1):11.2f}", flush=True)
    return points


def print_bars(prefix: str, values: dict[str, float], bar: float, digits: str) -> int:
    """Prints a line for each value, which is held against the bar; returns 1 if one is above it."""
    for name, value in values.items():
        print(f"{prefix}{name}: {value:{digits}}, bar {bar:{digits}}, {'ok' if value <= bar else 'short'}")
    return int(not all(value <= bar for value in values.values()))


if __name__ == "__main__":
    sys.exit(main())
