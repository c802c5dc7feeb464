"""Takes turns at steps of training with PyTorch on a CPU: `_ranks_train.py RANK SIZE PORT CROP`.

With SIZE 1, call 0 returns the seconds of a step without a group, and call 1 those of a step in a group of one rank.
With more, call 0 returns those of a step as RANK of a group, of which rank 0 listens at PORT. The batch is ready.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial

import numpy as np
from _train_data import BATCH, CLASSES
from _turns import answer, timed
from untrained import initial_arrays, specification

from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import Learner
from semseg.engines.torch.engine import TorchEngine
from semseg.machine import keep_memory_flat
from semseg.training.recipe import MMAP_THRESHOLD
from semseg.types import Batch

SECONDS = 600.0
LEARNING_RATE = 0.001
ENGINE = TorchEngine()


def main() -> None:
    """Answers calls."""
    rank, size, port, crop = map(int, sys.argv[1:])
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)  # as a job does
    cores = sorted(os.sched_getaffinity(0))
    if size > 1:
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    group = joined(rank, size, port)
    batch = noise(BATCH // size, crop)
    groups = [ALONE, group] if size == 1 else [group]
    answer(*(partial(timed, partial(step, learner(group), batch)) for group in groups))


def joined(rank: int, size: int, port: int) -> Group:
    """The group of all ranks."""
    listener = socket.create_server(("127.0.0.1", port)) if rank == 0 else None
    descriptor = listener.fileno() if listener else None
    return ENGINE.join(Membership(rank, size, "127.0.0.1", port, descriptor, "lo", SECONDS), ENGINE.cpu())


def learner(group: Group) -> Learner:
    """A learner of FCN-ResNet50 in float32."""
    arrays = initial_arrays("fcn", "resnet-50", CLASSES)
    return ENGINE.learner(specification("fcn", CLASSES), arrays, "initial values", ENGINE.cpu(), group)


def noise(images: int, crop: int) -> Batch:
    """A batch of noise."""
    rng = np.random.default_rng(0)
    shape = images, crop, crop
    return Batch(rng.integers(0, 256, (*shape, 3)).astype(np.uint8), rng.integers(0, CLASSES, shape).astype(np.uint8))


def step(learner: Learner, batch: Batch) -> None:
    """Makes a step, and waits for it."""
    float(learner.train_step(batch, LEARNING_RATE, 0))


if __name__ == "__main__":
    main()
