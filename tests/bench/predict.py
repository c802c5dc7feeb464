"""Times the network on an image of 480 x 480, by engine and precision, against GluonCV's `predict`.

FCN-ResNet50 of 21 classes. The engines alternate, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _models import in_int8
from gluon_models import gluon_model

from semseg.artifact.model_dir import describe
from semseg.engines.gluon import runtime
from semseg.engines.gluon.backend import GluonBackend
from semseg.engines.openvino.backend import OpenVinoBackend
from semseg.engines.protocols import Backend
from semseg.exporting.onnx_model import build_onnx
from semseg.machine import is_bf16_faster, usable_cores
from semseg.networks.definitions import NETWORKS, by_name
from semseg.types import Float32

CLASSES = 21
ROUNDS = 7
SIZES = [(400, 576), (384, 600), (360, 640), (320, 720), (300, 768), (288, 800), (256, 900)]
"""Each has 230,400 pixels, as 480 x 480."""

NETWORK = by_name("fcn", NETWORKS)
SPEED_BAR = 1.8
NEW_SIZE_BAR = 0.2


def main() -> int:
    """Prints the medians; returns 1 if the default engine misses a bar."""
    model = gluon_model("fcn", "resnet-50", CLASSES, runtime.load().cpu())
    with tempfile.TemporaryDirectory() as directory:
        model.save_parameters(str(Path(directory) / "model_best.params"))
        content = build_onnx(describe(Path(directory)))
    f32, bf16 = (OpenVinoBackend(content, NETWORK, CLASSES, precision, usable_cores()) for precision in ("f32", "bf16"))
    image = noise(480, 480)
    int8 = OpenVinoBackend(in_int8(content, image), NETWORK, CLASSES, "f32", usable_cores())
    on_device = runtime.to_device(image, runtime.load().cpu())
    medians = take_turns(
        {
            "GluonCV predict": lambda: model.predict(on_device).asnumpy(),
            "MXNet": calls(GluonBackend(model, NETWORK, runtime.load().cpu()), image),
            "OpenVINO f32": calls(f32, image),
            "OpenVINO bf16": calls(bf16, image),
            "OpenVINO int8": calls(int8, image),
        }
    )
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:.3f} s, {medians['GluonCV predict'] / seconds:.2f} times as fast as GluonCV")
    extra = statistics.median(first_seen(bf16, *size) for size in SIZES)
    print(f"An image of a new size costs {extra:.3f} s more, bar {NEW_SIZE_BAR} s")
    faster = medians["GluonCV predict"] / medians["OpenVINO bf16"]
    ok = extra < NEW_SIZE_BAR and (faster >= SPEED_BAR or not is_bf16_faster())
    print(f"predict: {faster:.2f} times, bar {SPEED_BAR} where the CPU is faster in bf16, {'ok' if ok else 'short'}")
    return int(not ok)


def noise(height: int, width: int) -> Float32:
    return np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)


def calls(backend: Backend, image: Float32) -> Callable[[], object]:
    return lambda: backend.logits(image)


def take_turns(predict: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each call, without its first; the calls alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in predict}
    for _ in range(1 + ROUNDS):
        for name, call in predict.items():
            seconds[name].append(timed(call))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def first_seen(backend: Backend, height: int, width: int) -> float:
    """How many seconds longer the first image of a size takes than the next."""
    call = calls(backend, noise(height, width))
    first = timed(call)
    return first - statistics.median(timed(call) for _ in range(3))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
