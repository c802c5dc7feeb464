"""What `serve` does at twice its capacity from 64 connections, for a quarter of an hour; needs wrk.

    scripts/bench load [--seconds 900] [--check]

Every answer has to be the right mask or a documented refusal, and none may come later than the deadline and a picture
allow. With --check that is all; otherwise bars on /ping, asked by a process of its own, and on memory too.
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
from _models import Server, pictures, random_model, serving

from semseg.codecs.images import decode_image
from semseg.codecs.masks import encode_mask
from semseg.inference.load import load_predictor

CONNECTIONS, PICTURES, SIZE = 64, 16, (96, 72)
TIMEOUT = 1
"""Seconds of a request: less than the line is long, so that both kinds of refusal are met."""

QUEUE = 48
PING_BAR, GROWTH_BAR = 0.250, 1.05
LONGEST = TIMEOUT + 5.0
"""Seconds: the deadline, and time for the picture at work, for sending, and for a busy machine."""

SETTLED_AFTER = 120
"""Seconds until memory is expected to be what it will be."""


def main() -> int:
    """Prints what happened; 1 if an answer was wrong or a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--check", action="store_true", help="no figures: only that the answers are right")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("The load comes from wrk, which is missing: apt-get install wrk.")
    job = random_model("fcn", "resnet-50")
    limits = {"SEMSEG_QUEUE": str(QUEUE), "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(TIMEOUT), "SEMSEG_REQUEST_LOG": "none"}
    with tempfile.TemporaryDirectory() as folder, serving(job, **limits) as server:
        assert server
        capacity = prepare(Path(folder), job, server)
        # A request that is accepted waits until its deadline in line, one that is refused not at all; both pause.
        pause = max(0.02, (CONNECTIONS / capacity - TIMEOUT) / 2)
        print(f"capacity {capacity:.1f} pictures of {SIZE[0]}x{SIZE[1]} a second; {pause:.2f} s between requests")
        told, pings, resident = under_load(server, folder, arguments.seconds, pause)
    asked = (told["right"] + told["wrong"] + told["refused"] + told["undocumented"]) / told["seconds"]
    print(f"{asked:.1f} requests a second, {asked / capacity:.2f} of the capacity")
    print(f"{told}; {len(pings)} pings, {sum(ping is None for ping in pings)} of them not answered with 200")
    kept = not (told["wrong"] or told["undocumented"] or told["broken"] or None in pings)
    kept = kept and told["right"] > 0 and told["refused"] > 0 and told["longest"] <= LONGEST
    print(f"load: {'every answer right' if kept else 'NOT every answer right, refused or in time'}")
    return int(not kept) if arguments.check else int(not all([kept, *figures(pings, resident)]))


def prepare(folder: Path, job: Path, server: Server) -> float:
    """Writes pictures with the masks that the network in this process makes of them; gives pictures per second."""
    predictor = load_predictor(job / "model", "openvino", cores=2).predictor
    bodies = pictures(SIZE, PICTURES)[:PICTURES]
    for number, body in enumerate(bodies, 1):
        (folder / f"{number}.jpg").write_bytes(body)
        (folder / f"{number}.png").write_bytes(encode_mask(predictor.predict(decode_image(body)).labels()))
        assert server.mask(body) == (folder / f"{number}.png").read_bytes()
    begin = time.perf_counter()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(server.mask, 10 * bodies))
    return 10 * PICTURES / (time.perf_counter() - begin)


def under_load(
    server: Server, folder: str, seconds: int, pause: float
) -> tuple[dict[str, Any], list[float | None], list[int]]:
    """What wrk counted, the seconds of pings (None: not 200), the memory each second."""
    script = str(Path(__file__).with_name("load.lua"))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "60s", "-s", script]
    command += [f"http://127.0.0.1:{server.port}", "--", folder, str(PICTURES), str(round(1000 * pause))]
    ours, theirs = multiprocessing.Pipe()
    prober = multiprocessing.get_context("spawn").Process(target=probe, args=(theirs, server.port), daemon=True)
    prober.start()
    assert ours.recv() == "probing"
    resident = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        while wrk.poll() is None:
            resident.append(server.resident_bytes())
            time.sleep(1)
        assert wrk.stdout
        told = json.loads(wrk.stdout.read().strip().splitlines()[-1])
    ours.send("enough")
    pings = ours.recv()
    prober.join()
    return told, pings, resident


def probe(parent: Connection, port: int) -> None:
    """In a process of its own, ahead of the others where that is allowed: a ping each 50 ms, on a new connection."""
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


def figures(pings: list[float | None], resident: list[int]) -> list[bool]:
    """Prints the bars; whether each is kept."""
    slowest = float(np.percentile([ping for ping in pings if ping is not None], 99.9))
    settled = min(SETTLED_AFTER, len(resident) // 2)
    growth = statistics.median(resident[-10:]) / statistics.median(resident[settled : settled + 10])
    print(f"memory after {settled} s: {resident[settled] / 1e6:.0f} MB, at the end: {resident[-1] / 1e6:.0f} MB")
    kept = []
    for name, value, bar in (("ping p99.9, seconds", slowest, PING_BAR), ("memory over settled", growth, GROWTH_BAR)):
        kept.append(value <= bar)
        print(f"{name}: {value:.4g}, bar {bar:.4g}, {'ok' if kept[-1] else 'short'}")
    return kept


if __name__ == "__main__":
    sys.exit(main())
