"""Measures the server's overhead: the share of a request's time outside the network, and requests/s with a null engine.

The requests are sequential, over HTTP: a JPEG of 480 x 480 for a PNG mask. The network is timed in the server, around
the call that runs it. The model is the trained FCN-ResNet50 of `_models`; the null engine returns zeros.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from _models import Server, free_port, jpeg_images, quantized, trained_model
from fake_backend import OnHost

from semseg.inference import load
from semseg.inference.predictor import Predictor
from semseg.serving import processes
from semseg.serving import server as server_module
from semseg.types import Float32

ROUNDS, NULL_REQUESTS, CLIENTS = 15, 600, 8
SIZE = (480, 480)
BARS = {"f32": 0.03, "int8": 0.06}


def main() -> int:
    """Prints the results; returns 1 if a bar is missed."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = "2"
    job = trained_model("fcn", epochs=2)
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as pool:  # OpenVINO hangs in forks of a process that used it
        pool.submit(quantized, job).result()
    bodies = jpeg_images(SIZE, ROUNDS)
    kept = []
    for precision, bar in BARS.items():
        share = outside(job, precision, bodies)
        kept.append(share <= bar)
        print(f"outside the network, {precision}: {share:.4f}, bar {bar}, {'ok' if kept[-1] else 'short'}", flush=True)
    with serving(job, "f32", lambda network: Zeros()) as (server, _):
        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(server.mask, [bodies[0]] * NULL_REQUESTS))
        print(f"null engine: {NULL_REQUESTS / (time.perf_counter() - begin):.0f} requests/s from {CLIENTS} clients")
    return int(not all(kept))


def outside(job: Path, precision: str, bodies: list[bytes]) -> float:
    """The median share of a request's time outside the network."""
    shares = []
    with serving(job, precision, Timed) as (server, network_seconds):
        server.mask(bodies[0])
        for body in bodies:
            before, begin = network_seconds.value, time.perf_counter()
            server.mask(body)
            seconds = time.perf_counter() - begin
            shares.append(1 - (network_seconds.value - before) / seconds)
    return float(statistics.median(shares))


class Timed(OnHost):
    """A backend that adds its time to a number shared between processes."""

    seconds: Any = None

    def __init__(self, network: Any) -> None:
        self._network = network

    def logits(self, images: Float32) -> Float32:
        begin = time.perf_counter()
        result: Float32 = self._network.logits(images)
        Timed.seconds.value += time.perf_counter() - begin
        return result


class Zeros(OnHost):
    """A backend that returns zeros at once."""

    def logits(self, images: Float32) -> Float32:
        return np.zeros((1, 11, -(-images.shape[2] // 8), -(-images.shape[3] // 8)), np.float32)


@contextmanager
def serving(job: Path, precision: str, wrap: Callable[[Any], Any]) -> Iterator[tuple[Server, Any]]:
    """A server whose backend is wrapped, and the shared number of seconds that a Timed backend has taken."""
    context, port = multiprocessing.get_context("fork"), free_port()
    Timed.seconds = context.Value("d", 0.0)
    environ = {"SAGEMAKER_BASE_DIR": str(job), "SAGEMAKER_BIND_TO_PORT": str(port), "SEMSEG_PRECISION": precision}
    process = context.Process(target=serve, args=(environ, wrap))
    process.start()
    try:
        server = Server(process.pid or 0, port, 0.0)
        while not server.ready():
            assert process.is_alive(), "the server ended"
            time.sleep(0.05)
        yield server, Timed.seconds
    finally:
        process.terminate()
        process.join()


def serve(environ: dict[str, str], wrap: Callable[[Any], Any]) -> None:
    """Runs `serve` in a child, with a wrapped backend."""

    def load_wrapped(*arguments: Any, **options: Any) -> load.LoadedModel:
        model = load.load_predictor(*arguments, **options)
        predictor = model.predictor
        wrapped = Predictor(wrap(predictor._backend), predictor.num_classes, predictor.max_tile_pixels)
        return load.LoadedModel(wrapped, model.description, model.memory)

    with patch.object(processes, "load_predictor", load_wrapped), Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        server_module.serve(environ)


if __name__ == "__main__":
    sys.exit(main())
