"""Validates whole images of many sizes, then trains in less memory than a step takes, and then in all of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np
from _gpu_common import LEARNING_RATE, Bench, Plan, noise, noise_batch, timed
from bench_stages import Row

from semseg.engines.protocols import Learner
from semseg.errors import DeviceMemoryError
from semseg.types import Batch

SIZES = 20
CROP, LARGE_CROP = 240, 480


def rows(plan: Plan) -> Iterator[Row]:
    """A row for validation, and one for the lack of memory."""
    bench = Bench(plan)
    learner = bench.learner("fcn", "resnet-50", bench.precisions()[0])
    float(learner.train_step(noise_batch(plan.batch, plan.side(CROP)), LEARNING_RATE, 0))
    yield validation(learner, 2 if plan.tiny else SIZES, plan.side(640))
    if not bench.device.gpus:
        yield {"what": "more memory than there is", "skipped": "no CUDA"}
        return
    yield lack_of_memory(bench, learner)


def validation(learner: Learner, count: int, largest: int) -> Row:
    """Images of many sizes, each of them twice."""
    sizes = np.random.default_rng(3).integers(largest // 2, largest + 1, (count, 2))
    batches = [Batch(noise(1, *size), np.zeros((1, *size), np.uint8)) for size in sizes.tolist()]
    first, again = ([timed(lambda each=each: learner.evaluate(each)) for each in batches] for _ in "12")  # type: ignore[misc]
    return {
        "what": f"validation, {count} sizes up to {largest}",
        "first_seen_ms": round(1000 * statistics.median(first), 2),
        "seen_ms": round(1000 * statistics.median(again), 2),
        "first_seen_ms_worst": round(1000 * max(first), 2),
    }


def lack_of_memory(bench: Bench, learner: Learner) -> Row:
    """What a step raises when almost all memory is taken, and whether training goes on once it is free again."""
    row: Row = {"what": "more memory than there is", "raised": "nothing", "trains_on": False}
    free = learner.device_memory() or 0
    taken = [bench.tools.gibibyte(bench.device.handle) for _ in range(free // 2**30 - 1)]
    try:
        float(learner.train_step(noise_batch(bench.plan.batch, LARGE_CROP), LEARNING_RATE, 0))
    except DeviceMemoryError as error:
        row["raised"] = f"DeviceMemoryError: {error}"
    taken.clear()
    loss = float(learner.train_step(noise_batch(2, CROP), LEARNING_RATE, 1))
    return row | {"trains_on": bool(np.isfinite(loss))}
