"""Times training steps with PyTorch's CUDA graphs, or compiled, against plain ones: neither is used until it pays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch
from _gpu_common import LEARNING_RATE, PRECISIONS, Bench, Plan, noise_batch, seconds_a_step, timed
from _gpu_torch import DTYPES
from bench_stages import Row
from torch import nn

from semseg.engines.torch.learner import TorchLearner

SETUPS = ((8, 240), (16, 240), (16, 480))
COMPILED_SETUPS = ((16, 480), (8, 240))
SECONDS = 2.0


def graph_rows(plan: Plan) -> Iterator[Row]:
    """Rows of CUDA graphs."""
    bench = Bench(plan)
    bench.require_gpu()
    for images, crop in SETUPS:
        yield compared(bench, images, crop, graphed)


def compile_rows(plan: Plan) -> Iterator[Row]:
    """Rows of torch.compile; the first step includes the compilation."""
    bench = Bench(plan)
    bench.require_gpu()
    for images, crop in COMPILED_SETUPS:
        yield compared(bench, images, crop, compiled)


def compared(bench: Bench, images: int, crop: int, change: Any) -> Row:
    """The time of a step before and after a change of the learner, and that of making the change."""
    gc.collect()  # the learner before holds a cycle, and with it its graphs' memory
    precision = bench.precisions()[0]
    learner = bench.learner("fcn", "resnet-50", precision)
    batch = noise_batch(images, crop)

    def step() -> Any:
        return learner.train_step(batch, LEARNING_RATE, 0)

    bench.forget_peak()
    plain = seconds_a_step(step, SECONDS)
    plain_peak = bench.peak_gib()
    bench.forget_peak()
    begin = timed(lambda: (change(learner, images, crop, precision), float(step())))
    changed = seconds_a_step(step, SECONDS)
    return {
        "what": f"fcn resnet-50 batch {images} {crop} {PRECISIONS[precision]}",
        "plain_images_s": round(images / plain, 1),
        "images_s": round(images / changed, 1),
        "times": round(plain / changed, 3),
        "begin_s": round(begin, 1),
        "peak_gib": bench.peak_gib(),
        "plain_peak_gib": plain_peak,
    }


def compiled(learner: TorchLearner, *_: Any) -> None:
    """Compiles the network of a learner."""
    torch._dynamo.reset()  # or it would take the sizes of a second network for variable ones
    learner._network.compile(dynamic=False)


class _BothHeads(nn.Module):  # type: ignore[misc]
    """A network as a function of images alone, as CUDA graphs need it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Any:
        return self.network(images, auxiliary=True)


def graphed(learner: TorchLearner, images: int, crop: int, precision: str) -> None:
    """Records the network of a learner, forward and backward, for one shape of images."""
    network = learner._network.train()
    sample = torch.zeros((images, 3, crop, crop), device="cuda").contiguous(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True
    with torch.autocast("cuda", DTYPES[precision], enabled=precision != "float32", cache_enabled=False):
        recorded = torch.cuda.make_graphed_callables(_BothHeads(network), (sample,))
    network.forward = lambda images, auxiliary: recorded(images)
