"""Measures the speed of training against GluonCV's loop, and the time spent waiting for data.

`train_speed`: images a second of FCN-ResNet50 over those of GluonCV's loop, as in its scripts/segmentation/train.py:
the eager network, two loader processes, a wait after each step. Both use batches of 4, crop 240, two compute threads,
the same files and their own process, and alternate after a few steps; the result is the median of the pairs.
`train_speed_torch_float32`, `train_speed_torch_bfloat16`: the same of PyTorch, in the same run, with --torch. bfloat16
is measured where the CPU computes in it, and has its bar where the CPU is faster in it than in float32.
`train_waiting`: the share of the steps' time spent waiting for data, in steps without a pause, because the loader would
get ahead in a pause.
`train_loader`: batches a second without training, over the rate of one thread without a loader (the bench `input`)
times the number of cores.
It also prints the GFLOP/s of a step over those of a lone 3 x 3 convolution, forward and backward, 512 to 512 channels,
on the 30 x 30 pixels of the last stage.

--pairs N: pairs of turns (7). --torch: measure PyTorch too, in the environment .venv-torch; `scripts/setup torch` makes
it, for which it may fetch 3 GB. The images are CamVid's in $SEMSEG_CAMVID, by default ../shared/data/camvid; without
them, generated ones.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from _train_data import (
    BASE,
    BATCH,
    CLASSES,
    CROP,
    LOADED,
    LONE_GFLOP,
    ROOT,
    SAMPLER,
    STEPS,
    endless,
    training_folder,
    training_pairs,
)
from _turns import Turn, taking_turns, timed
from flop import training_flop
from numpy.typing import NDArray

from semseg.data.pairs import Pair
from semseg.data.samples import IndexedPair, Sampler
from semseg.machine import has_bf16, is_bf16_faster, usable_cores
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name

Floats = NDArray[np.floating[Any]]

PAUSE = 1.0
"""Seconds after a turn in which its loader refills its buffer, so that it does not slow down the next turn."""

GLUONCV, MXNET, FLOAT32, BFLOAT16 = "gluoncv", "mxnet", "torch_float32", "torch_bfloat16"
SPEED_BARS = {MXNET: 1.10, FLOAT32: 1.03, BFLOAT16: 1.85}
NAMES = {MXNET: "train_speed"} | {name: f"train_speed_{name}" for name in (FLOAT32, BFLOAT16)}
WAITING_BAR, LOADER_BAR = 0.03, 0.80
TRAIN, LONE, WAITING = 0, 1, 2
"""The numbers of the calls of `_train_gluoncv.py`, which has no WAITING, and `_train_semseg.py`."""


def main() -> int:
    """Runs the three parts; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()
    if options.torch:
        subprocess.run([ROOT / "scripts/setup", "torch"], check=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as processes:
        folder = training_folder(Path(scratch))
        loader = loader_over_cores(training_pairs(folder))
        turns = {name: processes.enter_context(turn) for name, turn in engines(folder, options.torch)}
        seconds = measured(turns, options.pairs)
        waiting = turns[MXNET](WAITING)
    print_rates(seconds)
    bars = {name: bar for name, bar in SPEED_BARS.items() if name != BFLOAT16 or is_bf16_faster()}
    results = [
        (NAMES[name], float(np.median(seconds[GLUONCV][TRAIN] / taken[TRAIN])), bars[name])
        for name, taken in seconds.items()
        if name in bars
    ]
    results.append(("train_loader", loader, LOADER_BAR))
    for name, value, bar in results:
        print(f"{name}: {value:.2f}, bar {bar:.2f}, {'ok' if value >= bar else 'short'}")
    print(f"train_waiting: {waiting:.3f}, bar {WAITING_BAR:.3f}, {'ok' if waiting < WAITING_BAR else 'short'}")
    return int(waiting >= WAITING_BAR or any(value < bar for _, value, bar in results))


def engines(folder: Path, with_torch: bool) -> Iterator[tuple[str, AbstractContextManager[Turn]]]:
    """What is compared: names and processes."""
    yield GLUONCV, taking_turns("_train_gluoncv.py", folder)
    yield MXNET, taking_turns("_train_semseg.py", folder, "mxnet", "float32")
    if with_torch:
        python = ROOT / ".venv-torch/bin/python"
        yield FLOAT32, taking_turns("_train_semseg.py", folder, "torch", "float32", python=python)
        if has_bf16():
            yield BFLOAT16, taking_turns("_train_semseg.py", folder, "torch", "bfloat16", python=python)


def measured(turns: dict[str, Turn], rounds: int) -> dict[str, Floats]:
    """The seconds of training and of lone convolutions in each round, by name: (2, rounds)."""
    order = [(name, call) for call in (TRAIN, LONE) for name in turns]
    found = [[paused(turns[name], call) for name, call in order] for _ in range(1 + rounds)][1:]  # the first warms up
    by_call = np.array(found).T.reshape(2, len(turns), rounds)
    return {name: by_call[:, place] for place, name in enumerate(turns)}


def paused(turn: Turn, call: int) -> float:
    """The result of a call, after a pause."""
    found = turn(call)
    time.sleep(PAUSE)
    return found


def print_rates(seconds: dict[str, Floats]) -> None:
    """Prints images and GFLOP a second, forward and backward, and the latter's share of the lone convolution's."""
    images = STEPS * BATCH
    gflop = training_flop(by_name("fcn", NETWORKS), by_name("resnet-50", BACKBONES), CLASSES, CROP, CROP) / 1e9
    print(f"{'':16}{'images/s':>10}{'GFLOP/s':>10}{'a lone convolution':>20}{'share':>8}")
    for name, taken in seconds.items():
        rate = images / float(np.median(taken[TRAIN]))
        lone = LONE_GFLOP / float(np.median((seconds[GLUONCV] if name == MXNET else taken)[LONE]))
        print(f"{name:16}{rate:>10.2f}{rate * gflop:>10.0f}{lone:>20.0f}{rate * gflop / lone:>8.2f}")


def loader_over_cores(pairs: Sequence[Pair]) -> float:
    """The speed of the loader without training, over that of one thread without a loader, per core."""
    alone = Sampler(SAMPLER.label_map, CROP, BASE, seed=0, workers=0)
    batches = endless(pairs)
    next(batches)
    ratios = []
    for number in range(3):
        places = (IndexedPair(number, index, pair) for index, pair in enumerate(islice(pairs, LOADED)))
        one = timed(partial(deque, alone.training(places, ahead=0), 0))
        all_cores = timed(partial(deque, islice(batches, LOADED // BATCH), 0))
        ratios.append(one / all_cores / usable_cores())
    return statistics.median(ratios)


if __name__ == "__main__":
    sys.exit(main())
