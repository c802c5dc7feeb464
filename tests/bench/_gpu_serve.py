"""Times inference as a server does it, without HTTP and JPEG: fixed sizes, and many sizes, the first time and again."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from _gpu_common import CLASSES, Bench, Plan, noise, repeated, timed
from bench_stages import Row
from untrained import write_model

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.engines.protocols import Backend, BackendOptions
from semseg.inference.predictor import Predictor, normalise
from semseg.machine import usable_cores
from semseg.types import UInt8

SIZES = ((480, 480), (1080, 1920))
TINY_SIZES = ((32, 32), (24, 40))
MANY = 50
SECONDS = 0.7
ONE_TILE = 1 << 40
PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}
"""Of serving, by those of training; none serves in float16."""


def rows(plan: Plan) -> Iterator[Row]:
    """Rows for each network and precision."""
    bench = Bench(plan)
    precisions = [PRECISIONS[name] for name in bench.precisions() if name in PRECISIONS]
    algorithms = ("fcn",) if plan.tiny else ("fcn", "psp", "deeplab")
    for algorithm in algorithms:
        with tempfile.TemporaryDirectory() as folder:
            model = describe(write_model(Path(folder), algorithm, "resnet-50", CLASSES))
            for precision in precisions:
                for row in of_model(bench, model, precision, many=algorithm == "fcn"):
                    yield {"what": f"{algorithm} resnet-50 {precision} {row.pop('what')}"} | row


def of_model(bench: Bench, model: ModelDescription, precision: str, many: bool) -> Iterator[Row]:
    """A row for each size, and if `many` for many sizes."""
    options = BackendOptions(precision, cores=1 if bench.plan.tiny else usable_cores())
    backend = bench.engine.backend(model, bench.device, options)
    predictor = Predictor(backend, CLASSES, ONE_TILE)
    for height, width in TINY_SIZES if bench.plan.tiny else SIZES:
        bench.forget_peak()
        (image,) = noise(1, height, width)
        first = timed(partial(backend.logits, normalise(image)))
        seconds = repeated(partial(backend.logits, normalise(image)), bench.plan.seconds(SECONDS))
        whole = repeated(partial(mask, predictor, image), bench.plan.seconds(SECONDS))
        yield {
            "what": f"{height} x {width}",
            "first_ms": ms(first),
            "network_ms": ms(statistics.median(seconds)),
            "network_ms_95": ms(sorted(seconds)[int(0.95 * len(seconds))]),
            "mask_ms": ms(statistics.median(whole)),
            "peak_gib": bench.peak_gib(),
        }
    if many:
        yield many_sizes(backend, 2 if bench.plan.tiny else MANY, bench.plan.side(640))


def many_sizes(backend: Backend, count: int, largest: int) -> Row:
    """Images of many sizes, each three times; and whether the first size's answer is the same at the end."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(largest // 2, largest + 1, (count + 1, 2))
    images = [normalise(noise(1, height, width)[0]) for height, width in sizes]
    before = backend.logits(images[0])
    first, second, third = ([timed(partial(backend.logits, image)) for image in images[1:]] for _ in "123")
    seen = np.minimum(second, third)
    return {
        "what": f"{count} sizes up to {largest}",
        "first_seen_ms": ms(statistics.median(first)),
        "seen_ms": ms(statistics.median(seen)),
        "first_seen_ms_worst": ms(max(first)),
        "extra_ms": ms(statistics.median(np.subtract(first, seen).tolist())),
        "answers_repeat": bool((backend.logits(images[0]) == before).all()),
    }


def mask(predictor: Predictor, image: UInt8) -> UInt8:
    """The classes of all pixels, as a response has them."""
    return predictor.predict(image).labels()


def ms(seconds: float) -> float:
    """Milliseconds, rounded."""
    return round(1000 * seconds, 2)
