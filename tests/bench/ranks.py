"""Measures what a group of ranks costs training on a CPU: FCN-ResNet50, batches of 4, crop 240, float32.

`ranks_one`: the time of a step in a group of one rank over that of a step without a group, both in one process of two
threads: what the code of groups costs.
`ranks_two`: the time of a step of one process with two threads over that of two ranks with a core each, which share the
batch: above 1, the ranks are faster.
`ranks_sent`: the bytes that each of the two ranks sends in a step, as the loopback interface counts them, over those of
the trained parameters.
The steps alternate, and batches are ready; each result is the median of the pairs.

--pairs N: pairs of steps (15). --crop N: the crop (240), smaller to try the script. On two idle cores it takes some six
minutes, and 8 GB of memory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
from _models import free_port
from _train_data import CLASSES, CROP
from _turns import Turn, taking_turns

from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import parameter_table

RANKS = 2
ONE_BAR, TWO_BAR, SENT_BAR = 1.03, 0.9, 1.05
PLAIN, GROUP = 0, 1
"""The numbers of the calls of `_ranks_train.py` for one rank."""


def main() -> int:
    """Runs the comparison; returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--crop", type=int, default=CROP)
    options = parser.parse_args()
    with ExitStack() as processes:
        alone = processes.enter_context(taking_turns("_ranks_train.py", "0", "1", str(free_port()), str(options.crop)))
        ranks = [processes.enter_context(turn) for turn in two_ranks(options.crop)]
        measured(alone, ranks)  # warms up
        found = np.array([measured(alone, ranks) for _ in range(options.pairs)])
    plain, group, two, sent = np.median(found, axis=0)
    print(f"seconds a step: {plain:.2f} without a group, {group:.2f} in a group of one rank, {two:.2f} on two ranks")
    print(f"bytes that a rank sends in a step: {sent / 1e6:.1f} MB; trained parameters: {trained_bytes() / 1e6:.1f} MB")
    one = float(np.median(found[:, 1] / found[:, 0]))
    faster = float(np.median(found[:, 0] / found[:, 2]))
    share = float(sent) / trained_bytes()
    results = [("one", one, ONE_BAR, one <= ONE_BAR), ("two", faster, TWO_BAR, faster >= TWO_BAR)]
    results.append(("sent", share, SENT_BAR, share <= SENT_BAR))
    for name, value, bar, met in results:
        print(f"ranks_{name}: {value:.3f}, bar {bar:.2f}, {'ok' if met else 'short'}")
    return int(not all(met for *_, met in results))


def two_ranks(crop: int) -> list[AbstractContextManager[Turn]]:
    """The processes of the ranks of one group."""
    port = str(free_port())
    return [taking_turns("_ranks_train.py", str(rank), str(RANKS), port, str(crop), threads=1) for rank in range(RANKS)]


def measured(alone: Turn, ranks: Sequence[Turn]) -> tuple[float, float, float, float]:
    """The seconds of a step without a group, in a group of one, and on two ranks, and the bytes that each of these
    sent."""
    plain, group = alone(PLAIN), alone(GROUP)
    before = loopback_bytes()
    with ThreadPoolExecutor(RANKS) as pool:
        two = max(pool.map(lambda rank: rank(0), ranks))
    return plain, group, two, (loopback_bytes() - before) / RANKS


def loopback_bytes() -> int:
    """The bytes that the loopback interface has sent so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (counts,) = (line.partition(":")[2].split() for line in lines if line.strip().startswith("lo:"))
    return int(counts[8])


def trained_bytes() -> int:
    """The bytes of the parameters that have a gradient, in float32."""
    table = parameter_table(by_name("fcn", NETWORKS), by_name("resnet-50", BACKBONES), CLASSES)
    return sum(4 * int(np.prod(parameter.shape)) for name, parameter in table.items() if "running" not in name)


if __name__ == "__main__":
    sys.exit(main())
