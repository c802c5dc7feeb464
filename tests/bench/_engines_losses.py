"""The trainings whose losses the bench `engines` compares, each in a process of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from _train_data import CLASSES, SAMPLER, endless, training_pairs
from untrained import initial_arrays, specification

from semseg.engines.choose import ENGINES
from semseg.engines.protocols import Learner
from semseg.machine import keep_memory_flat
from semseg.training.recipe import MMAP_THRESHOLD
from semseg.types import Arrays

LEARNING_RATE = 0.001
"""The hyperparameter's default, as are the optimizer's other settings."""


@dataclass(frozen=True)
class Steps:
    """How a training goes. base: the long side that images are resized to, by half to twice that; averaged: the number
    of the first and of the last steps whose losses are averaged."""

    crop: int
    base: int
    batch: int
    steps: int
    averaged: int


STEPS = Steps(crop=96, base=208, batch=4, steps=200, averaged=50)
"""base is to crop as the defaults of the hyperparameters are."""

TINY_STEPS = Steps(crop=32, base=72, batch=2, steps=2, averaged=1)


@dataclass(frozen=True)
class Start:
    """What trains. disturbance: the relative deviation from the initial values, drawn at random."""

    engine: str
    precision: str
    disturbance: float = 0.0

    def arrays(self) -> Arrays:
        """The values to start from."""
        rng = np.random.default_rng(1)
        return {
            name: (array * (1 + self.disturbance * rng.standard_normal(array.shape))).astype(np.float32)
            for name, array in initial_arrays("fcn", "resnet-50", CLASSES).items()
        }

    def learner(self) -> Learner:
        """A learner on the CPU."""
        (engine,) = (engine for engine in ENGINES if engine.name == self.engine)
        wanted = replace(specification("fcn", CLASSES), precision=self.precision)
        return engine.learner(wanted, self.arrays(), "initial values", engine.cpu())


def losses(start: Start, plan: Steps, folder: Path) -> list[float]:
    """Trains in this process on the images in a folder; returns the loss of each step."""
    keep_memory_flat(MMAP_THRESHOLD, kept=MMAP_THRESHOLD)  # as a job does
    learner = start.learner()
    sampler = replace(SAMPLER, crop_size=plan.crop, base_size=plan.base)
    batches = islice(endless(training_pairs(folder), sampler, plan.batch), plan.steps)
    with _no_dropout(learner, start.engine):
        return [float(learner.train_step(batch, LEARNING_RATE, step)) for step, batch in enumerate(batches)]


def _no_dropout(learner: Learner, engine: str) -> AbstractContextManager[None]:
    """Switches off the dropout of an engine's learner that has made no step, while the context lasts."""
    if engine == "torch":
        from torch_learners import no_dropout

        return no_dropout()
    from gluon_models import without_dropout

    without_dropout(vars(learner)["_model"])
    return nullcontext()
