"""Loads `serve` with twice its capacity from 64 connections, for 15 minutes by default; needs wrk.

    scripts/bench load [--seconds 900] [--check]

Every response must be the right mask or a documented refusal, and come within LONGEST seconds. Without --check there
are also bars on memory and on /ping, which a separate process requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _models import Server, jpeg_images, random_model, serving

from semseg.codecs.images import decode_image
from semseg.codecs.masks import encode_mask
from semseg.inference.load import load_predictor

CONNECTIONS, IMAGES, SIZE = 64, 16, (96, 72)  # width and height
TIMEOUT = 1
"""Seconds for a request: less than a full queue takes, so that both kinds of refusal occur."""

QUEUE = 48
"""SEMSEG_QUEUE: fewer than CONNECTIONS, so that some requests find it full."""

PING_BAR, GROWTH_BAR = 0.250, 1.05
LONGEST = TIMEOUT + 5.0
"""Seconds: the deadline, and time for the image in progress, for sending, and for a busy machine."""

SETTLED_AFTER = 120
"""Seconds until memory is expected to be stable."""


def main() -> int:
    """Prints the results; returns 1 if a response is wrong or a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--check", action="store_true", help="check only that the responses are right")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("The load comes from wrk, which is missing: apt-get install wrk.")
    job = random_model("fcn", "resnet-50")
    limits = {"SEMSEG_QUEUE": str(QUEUE), "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(TIMEOUT), "SEMSEG_REQUEST_LOG": "none"}
    with tempfile.TemporaryDirectory() as folder, serving(job, **limits) as server:
        assert server
        capacity = write_images_and_measure_capacity(Path(folder), job, server)
        # An accepted request occupies its connection until the deadline, a refused one for no time: with this pause
        # between requests, the load is twice the capacity.
        pause = max(0.02, (CONNECTIONS / capacity - TIMEOUT) / 2)
        print(f"capacity {capacity:.1f} images of {SIZE[0]}x{SIZE[1]} a second; {pause:.2f} s between requests")
        counts, pings, resident = under_load(server, folder, arguments.seconds, pause)
    rate = (counts["right"] + counts["wrong"] + counts["refused"] + counts["undocumented"]) / counts["seconds"]
    print(f"{rate:.1f} requests a second, {rate / capacity:.2f} of the capacity")
    print(f"{counts}; {len(pings)} pings, {sum(ping is None for ping in pings)} of them not answered with 200")
    all_right = not (counts["wrong"] or counts["undocumented"] or counts["broken"] or None in pings)
    all_right = all_right and counts["right"] > 0 and counts["refused"] > 0 and counts["longest"] <= LONGEST
    print(f"load: {'every response right' if all_right else 'NOT every response right, refused or in time'}")
    return int(not all_right) if arguments.check else int(not all([all_right, *check_bars(pings, resident)]))


def write_images_and_measure_capacity(folder: Path, job: Path, server: Server) -> float:
    """Writes images with their masks, computed in this process; returns the server's capacity in images per second."""
    predictor = load_predictor(job / "model", "openvino", cores=2).predictor
    bodies = jpeg_images(SIZE, IMAGES)[:IMAGES]
    for number, body in enumerate(bodies, 1):
        (folder / f"{number}.jpg").write_bytes(body)
        (folder / f"{number}.png").write_bytes(encode_mask(predictor.predict(decode_image(body)).labels()))
        assert server.mask(body) == (folder / f"{number}.png").read_bytes()
    begin = time.perf_counter()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(server.mask, 10 * bodies))
    return 10 * IMAGES / (time.perf_counter() - begin)


def under_load(
    server: Server, folder: str, seconds: int, pause: float
) -> tuple[dict[str, Any], list[float | None], list[int]]:
    """Runs wrk; returns its counts, the seconds of each ping (None: not 200), and the memory in each second."""
    script = str(Path(__file__).with_name("load.lua"))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", "-s", script]
    command += [f"http://127.0.0.1:{server.port}", "--", folder, str(IMAGES), str(round(1000 * pause))]
    connection, other_end = multiprocessing.Pipe()
    prober = multiprocessing.get_context("spawn").Process(target=probe, args=(other_end, server.port), daemon=True)
    prober.start()
    assert connection.recv() == "probing"
    resident = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        while wrk.poll() is None:
            resident.append(server.resident_bytes())
            time.sleep(1)
        assert wrk.stdout
        counts = json.loads(wrk.stdout.read().strip().splitlines()[-1])
    connection.send("stop")
    pings = connection.recv()
    prober.join()
    return counts, pings, resident


def probe(parent: Connection, port: int) -> None:
    """Pings every 50 ms on a new connection, in a process with a higher priority if that is allowed."""
    if os.geteuid() == 0:
        os.nice(-10)
    parent.send("probing")
    pings: list[float | None] = []
    while not parent.poll(0.05):
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/ping")
            pings.append(time.perf_counter() - begin if connection.getresponse().status == 200 else None)
        except OSError:
            pings.append(None)
        connection.close()
    parent.send(pings)


def check_bars(pings: list[float | None], resident: list[int]) -> list[bool]:
    """Prints each value with its bar; returns whether each is met."""
    slowest = float(np.percentile([ping for ping in pings if ping is not None], 99.9))
    settled = min(SETTLED_AFTER, len(resident) // 2)
    growth = statistics.median(resident[-10:]) / statistics.median(resident[settled : settled + 10])
    print(f"memory after {settled} s: {resident[settled] / 1e6:.0f} MB, at the end: {resident[-1] / 1e6:.0f} MB")
    kept = []
    for name, value, bar in (
        ("ping p99.9, seconds", slowest, PING_BAR),
        ("final over settled memory", growth, GROWTH_BAR),
    ):
        kept.append(value <= bar)
        print(f"{name}: {value:.4g}, bar {bar:.4g}, {'ok' if kept[-1] else 'short'}")
    return kept


if __name__ == "__main__":
    sys.exit(main())
