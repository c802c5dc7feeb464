"""Takes turns at this project's training: `_train_semseg.py FOLDER ENGINE PRECISION`.

Calls: 0, the seconds of a turn; 1, with PyTorch, those of a turn of the lone convolution; 2, the share of the steps'
time spent waiting for data, in steps without a pause, because the loader would get ahead in a pause.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from _train_data import BATCH, CLASSES, LONE, LONE_REPEATS, SIDE, STEPS, endless, training_pairs
from _turns import answer, timed
from untrained import initial_arrays, specification

from semseg.engines.choose import ENGINES
from semseg.engines.protocols import Learner
from semseg.machine import keep_memory_flat
from semseg.training.recipe import MMAP_THRESHOLD

WARM_UP, LONG = 4, 20
LEARNING_RATE = 0.001


def main() -> None:
    """Answers calls."""
    folder, name, precision = sys.argv[1:]
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)  # as a job does
    (engine,) = (engine for engine in ENGINES if engine.name == name)
    wanted = replace(specification("fcn", CLASSES), precision=precision)
    learner = engine.learner(wanted, initial_arrays("fcn", "resnet-50", CLASSES), "initial values", engine.cpu())
    batches = endless(training_pairs(Path(folder)))
    lone = torch_convolution(precision) if name == "torch" else lambda: None
    answer(partial(timed, lambda: steps(learner, batches)), partial(timed, lone), lambda: waiting(learner, batches))


def steps(learner: Learner, batches: Iterator[Any]) -> None:
    """Makes STEPS steps."""
    for batch in islice(batches, STEPS):
        float(learner.train_step(batch, LEARNING_RATE, 0))


def waiting(learner: Learner, batches: Iterator[Any]) -> float:
    """The share of waiting for data in LONG steps."""
    waited, begin = 0.0, 0.0
    for number in range(WARM_UP + LONG):
        if number == WARM_UP:
            waited, begin = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        float(learner.train_step(batch, LEARNING_RATE, 0))
    return waited / (time.perf_counter() - begin)


def torch_convolution(precision: str) -> Callable[[], None]:
    """Runs the lone convolution forward and backward in PyTorch, LONE_REPEATS times."""
    import torch

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    convolution = torch.nn.Conv2d(LONE, LONE, 3, padding=1, bias=False, dtype=dtype)
    convolution = convolution.to(memory_format=torch.channels_last)
    x = torch.randn(BATCH, LONE, SIDE, SIDE, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()

    def turn() -> None:
        for _ in range(LONE_REPEATS):
            y = convolution(x)
            y.backward(torch.ones_like(y))

    return turn


if __name__ == "__main__":
    main()
