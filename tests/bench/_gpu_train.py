"""Times training steps of each network on a fixed batch, beside a product of two matrices of 8192 x 8192."""

from __future__ import annotations

from collections.abc import Iterator

from _gpu_common import CLASSES, LEARNING_RATE, PRECISIONS, Bench, Plan, noise_batch, seconds_a_step
from bench_stages import Row
from flop import training_flop

from semseg.engines.protocols import Learner
from semseg.errors import DeviceMemoryError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name

SETUPS = (
    ("fcn", "resnet-50", 480),
    ("fcn", "resnet-50", 240),
    ("fcn", "resnet-101", 480),
    ("psp", "resnet-50", 480),
    ("deeplab", "resnet-50", 480),
)
PRODUCT = 8192
SECONDS, PRODUCT_SECONDS = 3.0, 0.7


def rows(plan: Plan) -> Iterator[Row]:
    """A row for each product, then for each network, crop and precision."""
    bench = Bench(plan)
    products = {}
    for precision in bench.precisions():
        products[precision] = product_tflops(bench, precision)
        yield {"what": f"{plan.side(PRODUCT)}^3 {PRECISIONS[precision]}", "tflops": round(products[precision], 1)}
    for algorithm, backbone, crop in SETUPS[:1] if plan.tiny else SETUPS:
        for precision in bench.precisions():
            row = measured(bench, algorithm, backbone, plan.side(crop), precision)
            if "tflops" in row:
                row["of_product"] = round(row["tflops"] / products[precision], 3)
            yield row


def product_tflops(bench: Bench, precision: str) -> float:
    """The TFLOP/s of a product of two square matrices."""
    side = bench.plan.side(PRODUCT)
    step = bench.tools.product(bench.device.handle, precision, side)
    return 2 * side**3 / seconds_a_step(step, bench.plan.seconds(PRODUCT_SECONDS)) / 1e12


def measured(bench: Bench, algorithm: str, backbone: str, crop: int, precision: str) -> Row:
    """A row of a network, with the largest batch, up to the plan's, that fits into memory."""
    row: Row = {"what": f"{algorithm} {backbone} {crop} {PRECISIONS[precision]}"}
    learner = bench.learner(algorithm, backbone, precision)
    images = bench.plan.batch
    while images:
        bench.forget_peak()
        try:
            rate = images / step_seconds(learner, images, crop, bench.plan.seconds(SECONDS))
        except DeviceMemoryError:
            images //= 2
            continue
        flop = training_flop(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES, crop, crop)
        row |= {"batch": images, "images_s": round(rate, 2), "tflops": round(rate * flop / 1e12, 3)}
        return row | {"peak_gib": bench.peak_gib()}
    return row | {"error": "no batch fits into memory"}


def step_seconds(learner: Learner, images: int, crop: int, seconds: float) -> float:
    """The time of a step on a fixed batch."""
    batch = noise_batch(images, crop)
    return seconds_a_step(lambda: learner.train_step(batch, LEARNING_RATE, 0), seconds)
