"""Ranks of a group that train with PyTorch, each in a process of its own, and what they are to train.

`torch_ranks.py FOLDER LISTENER...`: runs CASES on groups of SIZES, and writes what each rank of each gave to FOLDER.
LISTENER: for each size, the port and the descriptor of a socket that listens there.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tiny_network import specification, tiny_arrays

from semseg.codecs.params import write_params
from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import Device, LearnerSpecification
from semseg.errors import GroupError
from semseg.types import IGNORED, Arrays, Batch

SIZES = (4, 2)
STEPS, RATE = 2, 0.1
TOO_LARGE = 2.0**24
"""The loss scale of float16's last step, in which the gradient overflows."""

SECONDS = 60
"""The longest wait for another rank: a test that fails does not hang."""

FROZEN, SYNCHRONISED, OWN = "frozen", "syncbn", "own"
"""BatchNorm with fixed statistics, with those of the whole batch, and with those of each rank's part."""

SPLITS = {2: ((2, 2), (3, 1), (0, 3)), 4: ((1, 1, 1, 1), (2, 0, 1, 1))}
CRITERIA: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "class weights": {"weights": (1.0, 3.0, 0.5)},
    "focal": {"loss": "focal"},
    "dice+ce": {"loss": "dice+ce", "weights": (1.0, 3.0, 0.5)},
    "no aux_loss": {"loss": "dice+ce", "aux_loss": False},
    "clipped": {"gradient_clip": 1e-3},
}


@dataclass(frozen=True)
class Case:
    """A training. norm: FROZEN, SYNCHRONISED or OWN; split: the number of images of each rank; criterion: one of
    CRITERIA; precision: `float64`, or as a job may have it; resumed: whether the last step is of a new learner with the
    state of the one before.
    """

    norm: str
    split: tuple[int, ...]
    criterion: str = "cross_entropy"
    precision: str = "float64"
    resumed: bool = False

    def __str__(self) -> str:
        parts = (self.norm, "-".join(map(str, self.split)), self.criterion, self.precision, self.resumed and "resumed")
        return " ".join(part for part in parts if part)

    @property
    def one_process(self) -> Case:
        """The training that this one is to equal."""
        return replace(self, split=(sum(self.split),), resumed=False)

    def specification(self) -> LearnerSpecification:
        """What the learner is to be."""
        precision = "float32" if self.precision == "float64" else self.precision
        wanted = specification("sgd", **CRITERIA[self.criterion])
        return replace(wanted, syncbn=self.norm == SYNCHRONISED, precision=precision)


EXACT = [
    Case(norm, split, criterion)
    for size in SIZES
    for norm, split, criterion in product((FROZEN, SYNCHRONISED), SPLITS[size], CRITERIA)
] + [Case(SYNCHRONISED, (2, 1), resumed=True)]
"""Trainings that equal one process's."""

ROUNDED = [Case(SYNCHRONISED, (2, 1), precision=precision) for precision in ("float32", "bfloat16", "float16")]
SEPARATE = [Case(OWN, split) for size in SIZES for split in SPLITS[size]]
CASES = EXACT + ROUNDED + SEPARATE


def whole_batch(images: int, step: int) -> Batch:
    """Images of noise and of their labels, of which each has other classes and another number of ignored pixels."""
    rng = np.random.default_rng([images, step])
    labels = rng.integers(0, 1 + np.arange(1, images + 1)[:, None, None] % 3, (images, 16, 16))
    labels = np.where(rng.random(labels.shape) < np.linspace(0, 0.8, images)[:, None, None], IGNORED, labels)
    noise = rng.integers(0, 100, (*labels.shape, 3))
    return Batch((labels[..., None] * 60 % 180 + noise).astype(np.uint8), labels.astype(np.uint8))


def part(batch: Batch, split: Sequence[int], rank: int) -> Batch:
    """A rank's images of a batch."""
    first = sum(split[:rank])
    images = slice(first, first + split[rank])
    return Batch(batch.images[images], batch.labels[images])


def trained(case: Case, group: Group = ALONE) -> Arrays:
    """The state after each step and the values, of one process with whole batches or of a rank with its parts."""
    from torch_learners import no_dropout

    found: Arrays = {}
    with no_dropout(), frozen() if case.norm == FROZEN else nullcontext():
        learner = learner_of(case, group)
        for step in range(STEPS):
            if case.resumed and step == STEPS - 1:
                state, learner = learner.state(), learner_of(case, group)
                learner.restore(state, "a test")
            if case.precision == "float16" and step == STEPS - 1:
                learner.restore(learner.state() | {"loss_scale/scale": np.array([TOO_LARGE])}, "a test")
            batch = whole_batch(sum(case.split), step)
            if group is not ALONE:
                batch = part(batch, case.split, group.rank)
            found[f"{step}/value"] = np.array([float(learner.train_step(batch, RATE, step))])
            found |= {f"{step}/{name}": array for name, array in learner.state().items()}
    return found


def learner_of(case: Case, group: Group) -> Any:
    """The learner of a case with its first values."""
    import torch
    from torch_learners import DoubleTorchLearner

    from semseg.engines.torch.engine import TorchEngine

    if case.precision == "float64":
        return DoubleTorchLearner(case.specification(), tiny_arrays(), group)
    return TorchEngine().learner(case.specification(), tiny_arrays(), "a test", Device(torch.device("cpu")), group)


@contextmanager
def frozen() -> Iterator[None]:
    """While it lasts, batch normalisations train with their running statistics, which stay."""
    from torch.nn import functional

    from semseg.engines.torch.batch_norm import BatchNorm

    def forward(layer: Any, x: Any) -> Any:
        mean, variance = layer.running_mean, layer.running_var
        return functional.batch_norm(x, mean, variance, layer.weight, layer.bias, training=False, eps=layer.eps)

    with patch.object(BatchNorm, "forward", forward):
        yield


def listening() -> socket.socket:
    """A socket that listens at a free port of this machine."""
    return socket.create_server(("127.0.0.1", 0))


def membership(rank: int, size: int, port: int, listener: int | None, seconds: float = SECONDS) -> Membership:
    """A rank's place in a group of this machine."""
    return Membership(rank, size, "127.0.0.1", port, listener, "lo", seconds)


@contextmanager
def python(*arguments: object, inherited: Sequence[socket.socket] = ()) -> Iterator[subprocess.Popen[str]]:
    """A Python process with these arguments that inherits sockets; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        pass_fds=[one.fileno() for one in inherited],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def unequal(group: Group) -> str:
    """What a rank says to a training whose last rank starts with other parameters."""
    learner = learner_of(Case(OWN, (1, 1)), group)
    arrays = learner.parameters()
    arrays["head.4.bias"][group.rank // (group.size - 1)] += 1
    learner.load(arrays, "a test")
    try:
        learner.train_step(whole_batch(1, 0), RATE, 0)
    except GroupError as error:
        return str(error)
    return "nothing"


def seed_of(group: Group) -> str:
    """The seed of a rank's random numbers in a step of seed 7, twice."""
    import torch

    learner, seeds = learner_of(Case(OWN, (1, 1)), group), []
    for _ in range(2):
        learner.train_step(whole_batch(1, 0), RATE, 7)
        seeds.append(torch.initial_seed())
    return str(seeds)


def run(rank: int, folder: Path, places: Sequence[tuple[int, int]]) -> None:
    """Runs one rank of all groups that have it."""
    from semseg.engines.torch.engine import TorchEngine

    engine = TorchEngine()
    for size, (port, descriptor) in zip(SIZES, places, strict=True):
        if rank >= size:
            continue
        group = engine.join(membership(rank, size, port, descriptor if rank == 0 else None), engine.cpu())
        for case in CASES:
            if len(case.split) == size:
                write_params(folder / f"{case} {rank}", trained(case, group))
        (folder / f"{size} {rank} seeds.txt").write_text(seed_of(group))
        (folder / f"{size} {rank}.txt").write_text(unequal(group))
        group.leave()


def main() -> None:
    """Runs all ranks: forks of this process, so that one process loads PyTorch and all that it loads with it."""
    import torch._dynamo  # noqa: F401 which DistributedDataParallel loads
    import torch_learners  # noqa: F401

    import semseg.engines.torch.data_parallel  # noqa: F401

    places = [(int(port), int(descriptor)) for port, descriptor in (text.split(":") for text in sys.argv[2:])]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run, args=(rank, Path(sys.argv[1]), places)) for rank in range(max(SIZES))]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(any(rank.exitcode for rank in ranks))


if __name__ == "__main__":
    main()
