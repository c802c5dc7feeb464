"""Compares logits, updates and losses on the device with what MXNet computed on a CPU (tests/support/golden.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import golden
import numpy as np
from _gpu_common import Bench, Plan
from bench_stages import Row
from untrained import ALGORITHMS, ENCODERS, random_arrays

from semseg.sagemaker.optimizers import OPTIMIZERS
from semseg.types import Arrays

ROUNDING = 1e-7
LOGITS_BAR, UPDATES_BAR, LOSSES_BAR = 1e-4, 1e-5, 1e-3
"""Of the largest value; of the largest change; of each loss. On a CPU logits differ by 2e-6; cuDNN may choose
algorithms that round more often. With convolutions in TF32 they would differ by 6e-4 or more [emulated on a CPU].
"""


def rows(plan: Plan) -> Iterator[Row]:
    """A row for each network and size, for each optimizer, and for a training."""
    bench, stored = Bench(plan), golden.stored()
    for algorithm in ALGORITHMS[:1] if plan.tiny else ALGORITHMS:
        for backbone in ENCODERS[:1] if plan.tiny else ENCODERS:
            yield logits(bench, stored, algorithm, backbone)
    if plan.engine == "torch":
        for optimizer in OPTIMIZERS:
            yield updates(bench, stored, optimizer)
    steps = 2 if plan.tiny else golden.STEPS
    found = bench.tools.losses(bench.device.handle, golden.CLASSES, golden.training_batch(), golden.STEP_RATE, steps)
    yield row(f"{steps} losses", np.abs(np.array(found) / stored[golden.TRAINING][:steps] - 1).max(), LOSSES_BAR)


def logits(bench: Bench, stored: Arrays, algorithm: str, backbone: str) -> Row:
    """The largest difference at any size, of the largest value."""
    learner = bench.learner(algorithm, backbone, "float32", golden.CLASSES)
    learner.load(random_arrays(algorithm, backbone, golden.CLASSES), "golden")
    errors = []
    for size in golden.SIZES:
        expected = stored[golden.logits_name(algorithm, backbone, size, "main")]
        errors.append(relative(learner.logits(golden.normalised_image(*size)), expected))
    return row(f"logits of {algorithm} on {backbone}", max(errors), LOGITS_BAR)


def updates(bench: Bench, stored: Arrays, optimizer: str) -> Row:
    """The largest difference of a tensor after any update, of its change, and of the states after the last."""
    history, states = bench.tools.updates(bench.device.handle, optimizer)
    start = golden.first_values()
    errors = [
        relative(found, expected, scale=expected - start[name])
        for name, each in history.items()
        for found, expected in zip(each, stored[golden.update_name(optimizer, name)], strict=True)
    ]
    errors += [relative(found, stored[golden.state_name(optimizer, name)]) for name, found in states.items()]
    return row(f"{len(golden.RATES)} updates with {optimizer}", max(errors), UPDATES_BAR)


def relative(found: Any, expected: Any, scale: Any = None) -> float:
    """The largest difference, but for a rounding, of the largest value of `expected` or `scale`."""
    beyond = np.abs(found - expected) - ROUNDING * np.abs(expected)
    return float(np.maximum(beyond.max(), 0) / np.abs(expected if scale is None else scale).max())


def row(what: str, error: float, bar: float) -> Row:
    """A row; NaN is not ok."""
    return {"what": what, "error": float(error), "bar": bar, "ok": bool(error <= bar)}
