"""Trains in a group of one process, over nccl, or gloo on a CPU.

It shows that a learner works in a group on this device, with `syncbn` too, that its updates stay the same, and what the
group costs.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
from _gpu_common import LEARNING_RATE, PRECISIONS, Bench, Plan, noise_batch, seconds_a_step
from bench_stages import Row
from numpy.typing import NDArray

from semseg.engines.group import ALONE, Group, Membership
from semseg.engines.protocols import Learner
from semseg.types import Batch

CROP = 480
SECONDS = 2.0
JOIN_SECONDS = 60.0


def rows(plan: Plan) -> Iterator[Row]:
    """A row for each precision."""
    bench = Bench(plan)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        place = Membership(0, 1, "127.0.0.1", port, listener.fileno(), "lo", JOIN_SECONDS)
        group = bench.engine.join(place, bench.device)
    try:
        for precision in bench.precisions():
            yield compared(bench, precision, group)
    finally:
        group.leave()


def compared(bench: Bench, precision: str, group: Group) -> Row:
    """The first update and the time of a learner in a group beside those of a learner alone.

    With `syncbn`, whose sums have another order, only the time.
    """
    crop = bench.plan.side(CROP)
    batch = noise_batch(bench.plan.batch, crop)
    seconds = bench.plan.seconds(SECONDS)

    def made(one: Group, syncbn: bool = False) -> Learner:
        return bench.learner("fcn", "resnet-50", precision, group=one, syncbn=syncbn)

    def time_of(learner: Learner) -> float:
        return seconds_a_step(lambda: learner.train_step(batch, LEARNING_RATE, 0), seconds)

    alone, again, inside = made(ALONE), made(ALONE), made(group)
    expected, repeated, found = (update(learner, batch) for learner in (alone, again, inside))
    longest = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)  # 0 where it overflows float16
    seconds_alone = time_of(alone)
    return {
        "what": f"fcn resnet-50 {crop} {PRECISIONS[precision]}",
        "gradient_error": float(np.abs(found - expected).max() / longest),
        "gradient_error_alone": float(np.abs(repeated - expected).max() / longest),
        "of_time_alone": round(time_of(inside) / seconds_alone, 3),
        "of_time_alone_syncbn": round(time_of(made(group, syncbn=True)) / seconds_alone, 3),
    }


def update(learner: Learner, batch: Batch) -> NDArray[np.float32]:
    """What a step, which has the learning rate 1, adds to the parameters."""
    before = learner.parameters()
    float(learner.train_step(batch, 1.0, 0))
    after = learner.parameters()
    return np.concatenate([(after[name] - array).ravel() for name, array in before.items() if "running" not in name])
