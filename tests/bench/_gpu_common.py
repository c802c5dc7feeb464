"""What the stages of the bench `gpu` share: the engine on its device, the sizes, and how time is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, SupportsFloat

import numpy as np
from bench_stages import SkippedError
from untrained import initial_arrays, specification

from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import Device, Engine, Learner
from semseg.types import Batch, UInt8

Step = Callable[[], SupportsFloat]

CLASSES = 21
LEARNING_RATE = 0.001
WARM_UP, LEAST = 2, 3
"""Calls before those that are timed, and of those at least; in a tiny plan, none and one or two."""

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""The short names of the training's precisions."""


@dataclass(frozen=True)
class Plan:
    """What is measured. engine: `torch` or `mxnet`; tiny: on the CPU and in the smallest sizes, to try the script."""

    engine: str
    tiny: bool

    @property
    def batch(self) -> int:
        """The images of a training step."""
        return 2 if self.tiny else 16

    def side(self, pixels: int) -> int:
        """The side of an image, in pixels."""
        return 32 if self.tiny else pixels

    def seconds(self, wanted: float) -> float:
        """The time in which something is repeated."""
        return 0.0 if self.tiny else wanted


class Bench:
    """An engine on its device: the first GPU, or the CPU in a tiny plan.

    tools: the module of what the engine's library is needed for, `_gpu_torch` or `_gpu_mxnet`.
    Raises DeviceError when there is no GPU that the engine can use.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tools: Any = import_module(f"_gpu_{plan.engine}")
        self.engine: Engine = self.tools.ENGINE
        found = self.engine.cpu() if plan.tiny else self.engine.find_device(required=True)
        self.device: Device = replace(found, gpus=min(found.gpus, 1))

    def precisions(self) -> list[str]:
        """What training computes in here: the best half precision first, if there is one, then float32."""
        offered = self.engine.precisions(self.device)
        halves = [precision for precision in ("bfloat16", "float16") if precision in offered]
        return [*halves[:1], "float32"]

    def learner(
        self,
        algorithm: str,
        backbone: str,
        precision: str,
        num_classes: int = CLASSES,
        *,
        group: Group = ALONE,
        syncbn: bool = False,
    ) -> Learner:
        """A learner with initial values."""
        wanted = specification(algorithm, num_classes, backbone=backbone)
        wanted = replace(wanted, precision=precision, syncbn=syncbn)
        arrays = initial_arrays(algorithm, backbone, num_classes)
        return self.engine.learner(wanted, arrays, "initial values", self.device, group)

    def require_gpu(self) -> None:
        """Raises SkippedError on a CPU."""
        if not self.device.gpus:
            raise SkippedError("no CUDA")

    def peak_gib(self) -> float | None:
        """The most memory of the GPU that was in use since `forget_peak`, in GiB; None on a CPU."""
        peak = self.tools.peak_bytes(self.device.handle) if self.device.gpus else None
        return None if peak is None else round(peak / 2**30, 2)

    def forget_peak(self) -> None:
        """Begins `peak_gib` anew."""
        if self.device.gpus:
            self.tools.forget_peak(self.device.handle)


def noise(images: int, height: int, width: int, seed: int = 0) -> UInt8:
    """Images of noise: uint8 (N, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (images, height, width, 3), np.uint8)


def noise_batch(images: int, side: int) -> Batch:
    """A batch of noise."""
    labels = np.random.default_rng(1).integers(0, CLASSES, (images, side, side), np.uint8)
    return Batch(noise(images, side, side), labels)


def seconds_a_step(step: Step, seconds: float) -> float:
    """The mean time of a step, repeated for `seconds` and a few times at least, after a few to warm up.

    Each result is read one step late, as training reads its losses, so that the device need not wait.
    """
    for _ in range(WARM_UP if seconds else 0):
        float(step())
    least = LEAST if seconds else 2
    begin, steps, last = time.perf_counter(), 1, step()
    while steps < least or time.perf_counter() - begin < seconds:
        current = step()
        float(last)
        last, steps = current, steps + 1
    float(last)
    return (time.perf_counter() - begin) / steps


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def repeated(call: Callable[[], object], seconds: float) -> list[float]:
    """The seconds of each of some calls, repeated for `seconds` and a few times at least, after a few to warm up."""
    for _ in range(WARM_UP if seconds else 0):
        call()
    found: list[float] = []
    while len(found) < (LEAST if seconds else 1) or sum(found) < seconds:
        found.append(timed(call))
    return found
