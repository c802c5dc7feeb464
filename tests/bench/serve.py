"""Measures time and memory of `serve`, against GluonCV's predict with Pillow.

Each row is a network at a size and a precision: the time from JPEG bytes to PNG bytes, through HTTP, over that of
GluonCV in a process of its own, alternating; and the share of pixels on which the masks agree. FCN-ResNet50 is trained
(`_models`); the other networks, without bars, have random weights, so their masks say little, and no int8, which needs
trained weights. All processes share the same two cores.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _convolution import rates
from _models import Server, agreement, jpeg_images, quantized, random_model, serving, trained_model
from PIL import Image

from semseg.artifact.gate import MAX_FALL

PAIRS, PAIRS_WITHOUT_BAR = 7, 3
SIZES = [(480, 480), (480, 360)]
PRECISIONS = {"f32": 0.90, "bf16": 0.50, "int8": 0.27}
"""The bars for the time over GluonCV's, by precision."""

AGREEMENT_BARS = {"f32": 0.9999, "bf16": 0.995}
UTILISATION_BARS = {"f32": 0.90, "bf16": 0.90, "int8": 0.75}
TENSOR_BAR, NEW_SIZE_BAR, PING_BAR, MEMORY_BAR = 0.15, 0.2, 3.0, 2.5
SAME_AREA = [(400, 576), (384, 600), (360, 640), (320, 720), (288, 800), (240, 960), (192, 1200)]
"""Sizes with the number of pixels, and of 8 x 8 cells, of 480 x 480."""

LARGE_SIZE = (2826, 2255)
OTHERS = [("fcn", "resnet-101"), ("psp", "resnet-50"), ("deeplab", "resnet-50")]
Result = tuple[str, float, float, bool]
"""A name, the value, its bar, and whether the bar is met."""


def main() -> int:
    """Runs all parts; returns 1 if a bar is missed."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = "2"
    job = trained_model("fcn", epochs=2)
    gate = quantized(job)
    print(f"{'seconds, JPEG to PNG':32}{'GluonCV':>9}{'serve':>9}{'ratio':>8}{'agreement':>11}")
    results = masks("fcn", "resnet-50", job, PAIRS)
    print(f"whole validation images: {gate}")
    results.append(at_most("mIOU that int8 loses", gate.fall, MAX_FALL))
    for algorithm, backbone in OTHERS:
        masks(algorithm, backbone, random_model(algorithm, backbone), PAIRS_WITHOUT_BAR)
    results += [*tensors(), *new_sizes(job), *starts(job), *memory(), *utilisation(random_model("fcn", "resnet-50"))]
    for name, value, bar, ok in results:
        print(f"{name}: {value:.4g}, bar {bar:.4g}, {'ok' if ok else 'short'}")
    return int(not all(ok for *_, ok in results))


def at_most(name: str, value: float, bar: float) -> Result:
    return name, value, bar, value <= bar


def at_least(name: str, value: float, bar: float) -> Result:
    return name, value, bar, value >= bar


def masks(algorithm: str, backbone: str, job: Path, pairs: int) -> list[Result]:
    """Prints the rows of one network; returns its results."""
    results = []
    with ExitStack() as stack:
        servers = {
            precision: stack.enter_context(serving(job, SEMSEG_BACKEND="openvino", SEMSEG_PRECISION=precision))
            for precision in PRECISIONS
        }
        gluoncv = stack.enter_context(child(serve_gluoncv, algorithm, backbone, str(job)))
        for size in SIZES if pairs == PAIRS else SIZES[:1]:
            bodies = jpeg_images(size, pairs)
            for precision, server in servers.items():
                if server:
                    name = f"{algorithm}-{backbone} {size[0]}x{size[1]} {precision}"
                    ratio, same = compare(name, server, gluoncv, bodies)
                    results.append(at_most(f"{name} ratio", ratio, PRECISIONS[precision]))
                    if precision in AGREEMENT_BARS:
                        results.append(at_least(f"{name} agreement", same, AGREEMENT_BARS[precision]))
    return results


def compare(name: str, server: Server, gluoncv: Connection, bodies: list[bytes]) -> tuple[float, float]:
    """Prints a row; returns the median ratio of times and the mean agreement. The first image is for warming up."""
    serve_seconds, gluoncv_seconds, same = [], [], []
    for body in (bodies[0], *bodies):
        seconds, expected = timed(ask, gluoncv, body)
        gluoncv_seconds.append(seconds)
        seconds, found = timed(server.mask, body)
        serve_seconds.append(seconds)
        same.append(agreement(found, expected))
    ratio = statistics.median(np.divide(serve_seconds[1:], gluoncv_seconds[1:]))
    medians = [statistics.median(times[1:]) for times in (gluoncv_seconds, serve_seconds)]
    print(f"{name:32}{medians[0]:9.3f}{medians[1]:9.3f}{ratio:8.3f}{100 * np.mean(same[1:]):10.3f}%", flush=True)
    return ratio, float(np.mean(same[1:]))


def tensors() -> list[Result]:
    """Time for a response of 21 classes at 480 x 480, without the network, over that of protobuf's `extend`."""
    with child(time_tensors) as worker:
        ratios = ask(worker, jpeg_images(SIZES[0], 1)[0])
    return [at_most("tensor response over extend", statistics.median(ratios), TENSOR_BAR)]


def new_sizes(job: Path) -> list[Result]:
    """How many seconds longer the first image of a size takes than the second."""
    extra = []
    with serving(job) as server:
        assert server
        server.mask(jpeg_images(SIZES[0], 1)[0])
        for body in (jpeg_images(size, 1)[0] for size in SAME_AREA):
            first, again = timed(server.mask, body)[0], timed(server.mask, body)[0]
            extra.append(first - again)
    return [at_most("first-seen size, seconds more", statistics.median(extra), NEW_SIZE_BAR)]


def starts(job: Path) -> list[Result]:
    """The seconds from exec to /ping 200, and the number of starts that import MXNet."""
    seconds, loaded = [], 0
    for _ in range(PAIRS):
        with serving(job) as server:
            assert server
            seconds.append(server.seconds)
            loaded += server.has_loaded("libmxnet")
    return [
        at_most("exec to /ping 200, seconds", statistics.median(seconds), PING_BAR),
        at_most("starts that imported MXNet", loaded, 0),
    ]


def memory() -> list[Result]:
    """Peak memory of the server in GB, after one large image in f32."""
    results = []
    for algorithm in ("fcn", "deeplab"):
        with serving(random_model(algorithm, "resnet-50"), SEMSEG_PRECISION="f32") as server:
            assert server
            server.mask(jpeg_images(LARGE_SIZE, 1)[0])
            name = f"{algorithm} peak memory of {LARGE_SIZE[0]}x{LARGE_SIZE[1]}, GB"
            results.append(at_most(name, server.peak_bytes() / 1e9, MEMORY_BAR))
    return results


def utilisation(job: Path) -> list[Result]:
    """The GFLOP/s of the network over those of a lone convolution."""
    results = []
    for precision in UTILISATION_BARS:
        with child(rates, str(job), precision, str(PAIRS)) as worker:
            network, lone = np.array(ask(worker, b""))
        print(f"GFLOP/s in {precision}: network {np.median(network):.0f}, lone convolution {np.median(lone):.0f}")
        share = statistics.median(network / lone)
        results.append(at_least(f"GFLOP/s over a lone convolution, {precision}", share, UTILISATION_BARS[precision]))
    return results


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The seconds that a call takes, and its result."""
    begin = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - begin, result


@contextmanager
def child(work: Callable[..., None], *arguments: str) -> Iterator[Connection]:
    """Runs `work` in a new process with one end of a pipe; yields the other end."""
    context = multiprocessing.get_context("spawn")
    connection, other_end = context.Pipe()
    process = context.Process(target=work, args=(other_end, *arguments), daemon=True)
    process.start()
    try:
        yield connection
    finally:
        process.terminate()
        process.join()


def ask(worker: Connection, message: bytes) -> Any:
    worker.send(message)
    return worker.recv()


def serve_gluoncv(parent: Connection, algorithm: str, backbone: str, job: str) -> None:
    """Turns JPEG bytes into PNG bytes with plain GluonCV and Pillow, as in GluonCV's documentation; runs in a child."""
    from semseg.artifact.model_dir import describe
    from semseg.codecs.params import read_params
    from semseg.engines.gluon import networks, runtime

    mx = runtime.load()
    model = describe(Path(job) / "model")
    network = networks.build(model.network, model.backbone, model.num_classes, mx.cpu())
    networks.assign(networks.parameters(network), read_params(model.params), job)
    transforms = mx.gluon.data.vision.transforms
    normalise = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )
    while True:
        image = Image.open(io.BytesIO(parent.recv())).convert("RGB")
        scores = network.predict(normalise(mx.nd.array(np.asarray(image), dtype="uint8")).expand_dims(0))
        labels = mx.nd.argmax(scores, axis=1).asnumpy()[0].astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(labels).save(file, "PNG")
        parent.send(file.getvalue())


def time_tensors(parent: Connection) -> None:
    """Sends the times of a tensor response over those of protobuf's `extend`; runs in a child."""
    from semseg.codecs.images import decode_image
    from semseg.codecs.tensors import encode_probabilities
    from semseg.inference.predictor import LogitsPrediction

    body = parent.recv()
    logits = np.random.default_rng(0).normal(size=(21, 60, 60)).astype(np.float32)
    record_class = record_of_protobuf()
    ratios = []
    for _ in range(PAIRS + 1):

        def respond() -> Any:
            height, width, _ = decode_image(body).shape
            prediction = LogitsPrediction(logits, height, width)
            return b"".join(encode_probabilities(prediction.probabilities()))

        seconds, _ = timed(respond)
        values = LogitsPrediction(logits, 480, 480).probabilities().ravel()
        extend_seconds, _ = timed(record_class().values.extend, values)
        ratios.append(seconds / extend_seconds)
    parent.send(ratios[1:])


def record_of_protobuf() -> Any:
    """The message class with packed floats in `aialgs.data.Record`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="tensor.proto", syntax="proto2")
    field = file.message_type.add(name="Float32Tensor").field.add(name="values", number=1)
    field.type, field.label, field.options.packed = field.TYPE_FLOAT, field.LABEL_REPEATED, True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Float32Tensor"))


if __name__ == "__main__":
    sys.exit(main())
